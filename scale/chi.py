"""Stage `chi`: ground-truth susceptibilities of the truth and heldout splits, one work item per few documents.

Reads corpus/ and draws/. Writes shards (covariance, shift, full, loss), ``rows.parquet`` and ``components.parquet``
(E_C[φ] of each half, local learning coefficient, reliability, mixing, excluded chains).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars

from scale.batches import Budget
from scale.components import FULL
from scale.config import ModelConfig, ProbeConfig, SGLDConfig
from scale.corpus import read_rows
from scale.diagnostics import mixing
from scale.draws import component_named, read_draws
from scale.engine import Item, Workspace, per_worker
from scale.errors import UserError
from scale.estimate import Estimator, assemble, reliability
from scale.language_model import LanguageModel, load_language_model
from scale.probe import HALVES, Pool, probe_document
from scale.store import Shards, read_manifest, read_table, shard_name, write_table

MEASURED = ("truth", "heldout")
PARTS = ("covariance", "shift", "full")


def half_chains(chains: polars.DataFrame, component: str) -> list[list[dict[str, Any]]]:
    """The chains of each half that have not diverged: the first half of the chains against the second."""
    rows = chains.filter(polars.col("component") == component)
    middle = len(rows) // HALVES
    usable = rows.filter(~polars.col("diverged")).to_dicts()
    return [[row for row in usable if row["chain"] < middle], [row for row in usable if row["chain"] >= middle]]


def load_pool(
    draws: Path, language_model: LanguageModel, component: str, chains: list[list[dict[str, Any]]], trained: float
) -> Pool:
    read = [[read_draws(draws, row) for row in half] for half in chains]
    return Pool(
        component_named(language_model, component),
        ([d.offsets for d in read[0]], [d.offsets for d in read[1]]),
        (np.stack([d.loss for d in read[0]]) - trained, np.stack([d.loss for d in read[1]]) - trained),
    )


@dataclass(frozen=True)
class Pools:
    """All components that can be measured, the unrestricted chain, and the names of those that cannot."""

    components: list[Pool]
    full: Pool
    failed: list[str]


@per_worker
def load_pools(draws: Path, model: ModelConfig) -> Pools:
    language_model = load_language_model(model)
    facts, chains = read_manifest(draws).facts, read_table(draws / "chains.parquet")
    usable, failed = [], []
    for name in [*facts["components"], FULL]:
        halves = half_chains(chains, name)
        if all(halves):
            usable.append(load_pool(draws, language_model, name, halves, facts["trained_loss"]))
        else:
            failed.append(name)
    if FULL in failed:
        raise UserError("sgld.step_size: too many chains of the full model diverged; try a tenth of it")
    if len(usable) < 3:
        raise UserError("sgld.step_size: chains of nearly every component diverged; try a tenth of it")
    return Pools(usable[:-1], usable[-1], failed)


def measure(
    corpus: Path, draws: Path, model: ModelConfig, settings: ProbeConfig, documents: tuple[int, ...]
) -> Mapping[str, np.ndarray]:
    """Work item: the parts of the susceptibilities of some documents."""
    language_model, pools = load_language_model(model), load_pools(draws, model)
    rows = read_rows(corpus, MEASURED)
    owners = rows.contexts["document"].to_numpy()
    budget = Budget.of(language_model.device, model.batch_tokens)
    measured = [
        probe_document(
            language_model, rows.tokens[owners == d], d, pools.components, pools.full, settings, budget
        ).arrays()
        for d in documents
    ]
    return {key: np.concatenate([m[key] for m in measured]) for key in measured[0]}


def reliabilities(covariance: np.ndarray, shift: np.ndarray, full: np.ndarray, mean_phi: float) -> dict[str, float]:
    """Split-half reliability of one column and of its parts, each (rows, 2)."""
    column = {"covariance": covariance[..., None], "shift": (shift - full)[..., None]}
    both = assemble(column["covariance"], shift[..., None], full, np.array([mean_phi]), "two-chain")
    parts = {f"reliability_{key}": float(reliability(values)[0]) for key, values in column.items()}
    return {"reliability": float(reliability(both)[0]), **parts}


def component_table(chi: Path, draws: Path, pools: Pools, nbeta: float) -> polars.DataFrame:
    """What is known of each component, in the order of the columns of χ."""
    chains = read_table(draws / "chains.parquet")
    parts = {key: Shards(chi).stack(key) for key in PARTS}
    rows = []
    for index, pool in enumerate(pools.components):
        component = pool.component
        mixed = mixing(np.concatenate(pool.phi))
        own = chains.filter(polars.col("component") == component.name)
        rows.append(
            {
                "component": component.name,
                "kind": component.kind,
                "layer": component.layer,
                "head": component.head,
                "mean_phi": pool.mean_phi,
                "llc": nbeta * pool.mean_phi,
                **reliabilities(
                    parts["covariance"][..., index], parts["shift"][..., index], parts["full"], pool.mean_phi
                ),
                "rhat": mixed.rhat,
                "ess": mixed.ess,
                "draws": int(sum(phi.size for phi in pool.phi)),
                "excluded_chains": int(own["diverged"].sum()),
            }
        )
    return polars.DataFrame(rows, schema_overrides={"layer": polars.Int32, "head": polars.Int32})


def document_groups(contexts: polars.DataFrame, size: int) -> list[tuple[int, ...]]:
    """The measured documents in runs of at most ``size``, none of which reaches across two splits."""
    groups = []
    for split in MEASURED:
        documents = contexts.filter(polars.col("split") == split)["document"].unique(maintain_order=True).to_list()
        groups += [tuple(documents[i : i + size]) for i in range(0, len(documents), size)]
    return groups


def make(work: Workspace, model: ModelConfig, sgld: SGLDConfig, settings: ProbeConfig) -> dict[str, Any]:
    corpus, draws = work.inputs["corpus"], work.inputs["draws"]
    load_pools.forget()  # a path may have been made again since this process last read it
    rows = read_rows(corpus, MEASURED)
    items = [
        Item(
            shard_name(index),
            measure,
            {"corpus": corpus, "draws": draws, "model": model, "settings": settings, "documents": group},
        )
        for index, group in enumerate(document_groups(rows.contexts, settings.documents_per_shard))
    ]
    work.engine.run(items, work.folder, "documents", work.progress)
    pools = load_pools(draws, model)
    for name in pools.failed:
        work.progress.say(f"  {name}: too few chains survived; it has no susceptibilities")
    table = component_table(work.folder, draws, pools, sgld.nbeta)
    write_table(work.folder / "rows.parquet", rows.table())
    write_table(work.folder / "components.parquet", table)
    tokens = len(rows.contexts) * rows.per_context
    return {
        "tokens": tokens,
        "components": len(table),
        "failed": pools.failed,
        "evaluations": tokens * (len(table) + 1) * settings.draws_per_document,
        "median_reliability": float(np.median(table["reliability"].to_numpy())),
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
