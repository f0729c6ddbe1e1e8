"""Stage `chi`: ground-truth susceptibilities of the truth and heldout splits, one work item per few documents.

Reads corpus/ and draws/. Writes shards (covariance, shift, full, loss), ``rows.parquet`` and ``components.parquet``
(E_C[φ], local learning coefficient, mixing of the chains, reliability and share of every part, excluded chains).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars

from scale.chi.duplicates import Duplicates
from scale.chi.estimate import Estimator, assemble
from scale.chi.pools import Described, PoolFacts, describe_pools, load_pools
from scale.chi.probe import probe_document
from scale.chi.reliability import PartMoments, PartStatistics
from scale.config import ModelConfig, ProbeConfig, SGLDConfig
from scale.corpus.stage import Rows, read_rows
from scale.costs import METHODS, Work, probing_cost, sampling_cost
from scale.draws.diagnostics import chain_statistics
from scale.draws.mean_gradient import LEAST_COMMON
from scale.engine import Item, Workspace
from scale.model.batches import memory_explained, remembered_budget
from scale.model.language_model import load_language_model
from scale.store import Shards, read_table, shard_name, write_table

MEASURED = ("truth", "heldout")
PARTS = ("covariance", "shift", "full")
#: Of nβ sd(φ), beyond which the posterior is no longer taken for a Gaussian: up to here the covariances of a head, an
#: MLP and the unembedding were those of the posterior but for a factor of the whole column (docs/estimators.md).
MOST_TILT = 1.0
OVERRIDES = {"layer": polars.Int32, "head": polars.Int32, "common_share": polars.Float64}


@memory_explained()
def measure(
    corpus: Path,
    draws: Path,
    model: ModelConfig,
    sgld: SGLDConfig,
    settings: ProbeConfig,
    documents: tuple[int, ...],
) -> Mapping[str, np.ndarray]:
    """Work item: the parts of the susceptibilities of some documents."""
    language_model, pools = load_language_model(model), load_pools(draws, model, sgld)
    rows = read_rows(corpus, MEASURED)
    owners = rows.contexts["document"].to_numpy()
    budget = remembered_budget(language_model.device, model.batch_tokens)
    measured = [
        probe_document(
            language_model, rows.take(owners == d), d, pools.components, pools.full, settings, budget
        ).arrays()
        for d in documents
    ]
    return {key: np.concatenate([m[key] for m in measured]) for key in measured[0]}


def read_through(chi: Path, mean_phi: np.ndarray) -> tuple[PartStatistics, int]:
    """What all tokens together say of each component, and how many have the vector of another; shard by shard."""
    moments, duplicates, shards = PartMoments(len(mean_phi)), Duplicates(), Shards(chi)
    for name in shards.names:
        covariance, shift, full = (shards.read(name, key) for key in PARTS)
        moments.update(covariance, shift, full)
        duplicates.update(covariance, shift)
    return moments.result(mean_phi), duplicates.count


def component_table(draws: Path, pools: list[PoolFacts], statistics: PartStatistics, nbeta: float) -> polars.DataFrame:
    """What is known of each component, in the order of the columns of χ."""
    chains = read_table(draws / "chains.parquet")
    rows = []
    for index, pool in enumerate(pools):
        component = pool.component
        own = chains.filter(polars.col("component") == component.name)
        rows.append(
            {
                "component": component.name,
                "kind": component.kind,
                "layer": component.layer,
                "head": component.head,
                **chain_statistics(pool.phi, nbeta),
                **statistics.of(index),
                "excluded_chains": int(own["diverged"].sum()),
                "common_share": pool.common,
            }
        )
    return polars.DataFrame(rows, schema_overrides=OVERRIDES)


def document_groups(contexts: polars.DataFrame, size: int) -> list[tuple[int, ...]]:
    """The measured documents in runs of at most ``size``, none of which reaches across two splits."""
    groups = []
    for split in MEASURED:
        documents = contexts.filter(polars.col("split") == split)["document"].unique(maintain_order=True).to_list()
        groups += [tuple(documents[i : i + size]) for i in range(0, len(documents), size)]
    return groups


def compute(rows: Rows, described: Described, sgld: SGLDConfig, settings: ProbeConfig) -> dict[str, float]:
    """Tokens that draws and measurements took through the whole model, and the operations of one that goes through."""
    length, truth = rows.per_context + 1, rows.contexts.filter(polars.col("split") == "truth").height
    work = Work(
        measured=len(rows.contexts) * length,
        reference=min(sgld.reference_contexts, sgld.pool_contexts, truth) * length,
        minibatch=sgld.batch_contexts * length,
        shares=[component.share for component in described.components],
    )
    return {
        "sampling": sampling_cost(sgld, work),
        "probing": probing_cost(sgld, settings.draws_per_document, work),
        "operations": 2 * described.multiplied,
    }


def make(work: Workspace, model: ModelConfig, sgld: SGLDConfig, settings: ProbeConfig) -> dict[str, Any]:
    corpus, draws = work.inputs["corpus"], work.inputs["draws"]
    for kept in (load_pools, remembered_budget):
        kept.forget()  # a path may have been made again since this process last read it
    rows = read_rows(corpus, MEASURED)
    items = [
        Item(
            shard_name(index),
            measure,
            {
                "corpus": corpus,
                "draws": draws,
                "model": model,
                "sgld": sgld,
                "settings": settings,
                "documents": group,
            },
        )
        for index, group in enumerate(document_groups(rows.contexts, settings.documents_per_shard))
    ]
    work.engine.run(items, work.folder, "documents", work.progress)
    described = work.engine.ask(describe_pools, draws, model, sgld)
    pools = described.components
    for name in described.failed:
        work.progress.say(f"  {name}: too few chains survived; it has no susceptibilities")
    mean_phi = np.array([pool.mean_phi for pool in pools])
    statistics, duplicates = read_through(work.folder, mean_phi)
    if duplicates:
        work.progress.say(
            f"  {duplicates} of {rows.count} tokens have the very vector of another: the same text, measured twice"
        )
    table = component_table(draws, pools, statistics, sgld.nbeta)
    bent = table.filter(polars.col("tilt") > MOST_TILT)["component"].to_list()
    if bent and METHODS[sgld.estimator].gaussian:
        work.progress.say(
            f"  {', '.join(bent)}: the loss bends this posterior away from N(w*, I/γ) (nβ sd(φ) above {MOST_TILT:g}); "
            f"{sgld.estimator} measures the Gaussian's susceptibilities. A larger sgld.localization, or a smaller "
            f"sgld.nbeta, brings them together"
        )
    partial = table.filter(polars.col("common_share") < LEAST_COMMON)["component"].to_list()
    if partial:
        work.progress.say(
            f"  {', '.join(partial)}: less than {LEAST_COMMON:g} of a gradient is common to all draws, and the rest is "
            f"left out; sgld.estimator: gaussian-gradient has it"
        )
    write_table(work.folder / "rows.parquet", rows.table())
    write_table(work.folder / "components.parquet", table)
    return {
        "tokens": rows.count,
        "components": len(table),
        "failed": described.failed,
        "bent": bent,
        "partial": partial,
        "duplicates": duplicates,
        "estimator": sgld.estimator,
        "compute": compute(rows, described, sgld, settings),
        "median_reliability": {
            "two-chain": float(np.median(table["reliability"].to_numpy())),
            "covariance": float(np.median(table["reliability_covariance"].to_numpy())),
        },
    }


@dataclass(frozen=True)
class GroundTruth:
    """Measured susceptibilities, χ (rows, 2, C) float64 by halves, with the tables that name rows and columns."""

    halves: np.ndarray
    rows: polars.DataFrame
    components: polars.DataFrame

    @property
    def chi(self) -> np.ndarray:
        return self.halves.mean(axis=1)


def assembled_blocks(chi: Path, estimator: Estimator) -> Iterator[np.ndarray]:
    """χ of one shard after another, (rows, 2, C)."""
    table = read_table(chi / "components.parquet")
    mean_phi = table["mean_phi"].to_numpy()
    shards = Shards(chi)
    for name in shards.names:
        covariance, shift, full = (np.asarray(shards.read(name, key), np.float64) for key in PARTS)
        yield assemble(covariance, shift, full, mean_phi, estimator)


def read_ground_truth(chi: Path, estimator: Estimator) -> GroundTruth:
    return GroundTruth(
        np.concatenate(list(assembled_blocks(chi, estimator))),
        read_table(chi / "rows.parquet"),
        read_table(chi / "components.parquet"),
    )
