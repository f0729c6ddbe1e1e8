"""Stage `leakage`: how close predictions are to the activations they were made from, and what ground truth supports.

Reads corpus/, chi/, taps/, aux/, upsampled/ and clusters/. Writes ``leakage.parquet`` (per tapped layer: linear CKA and
Jaccard of nearest neighbours between activations and measured, predicted and permuted coordinates), ``support.parquet``
(per cluster) and ``profiles.parquet`` (mean standardised susceptibility by component). All on held-out documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars

from aux.basis import Basis
from aux.config import AuxConfig
from aux.stage import read_measured
from cluster.neighbours import knn
from eval.bootstrap import Interval, bootstrap_mean, document_groups
from eval.cka import GroupedCKA
from eval.config import LeakageConfig
from eval.jaccard import JaccardKNN, permute_rows
from eval.support import cluster_support
from scale.engine import Workspace
from scale.store import Shards, read_array, read_manifest, read_table, write_json, write_table


@dataclass(frozen=True)
class Heldout:
    """The held-out rows: activations by layer, coordinates measured (by halves) and predicted, and what each row is."""

    activations: dict[int, np.ndarray]
    measured: np.ndarray
    predicted: np.ndarray
    documents: np.ndarray
    tokens: np.ndarray
    labels: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        return self.measured.mean(axis=1)

    def take(self, rows: np.ndarray) -> Heldout:
        return Heldout(
            {layer: values[rows] for layer, values in self.activations.items()},
            *(getattr(self, name)[rows] for name in ("measured", "predicted", "documents", "tokens", "labels")),
        )


def predicted_rows(upsampled: Path) -> tuple[np.ndarray, polars.DataFrame]:
    """Predicted coordinates of the held-out rows, and all rows' table."""
    rows = read_table(upsampled / "rows.parquet")
    wanted = int((rows["split"] == "heldout").sum())
    taken: list[np.ndarray] = []
    for block in Shards(upsampled).blocks("coordinates"):  # the held-out rows come first
        taken.append(np.array(block[: wanted - sum(map(len, taken))]))
        if sum(map(len, taken)) == wanted:
            break
    return np.concatenate(taken), rows


def read_heldout(inputs: Any, config: AuxConfig) -> Heldout:
    basis = Basis.load(inputs["aux"])
    measured = read_measured(inputs["chi"], inputs["taps"], basis, config, "heldout")
    predicted, rows = predicted_rows(inputs["upsampled"])
    truth_rows = read_table(inputs["chi"] / "rows.parquet").filter(polars.col("split") == "heldout")
    own = rows.head(len(predicted))
    keys = ["context", "position", "token"]
    assert own.select(keys).equals(truth_rows.select(keys)), "held-out rows differ between chi/ and upsampled/"
    facts = read_manifest(inputs["taps"]).facts
    stacked, width = np.concatenate(measured.inputs), facts["width"]
    return Heldout(
        {layer: stacked[:, i * width : (i + 1) * width] for i, layer in enumerate(facts["layers"])},
        measured.coordinates,
        predicted,
        measured.documents,
        own["token"].to_numpy(),
        np.array(read_array(inputs["clusters"] / "labels.npy")[: len(predicted)]),
    )


def sample_documents(documents: np.ndarray, tokens: int, seed: int) -> np.ndarray:
    """Rows of whole documents, drawn at random until ``tokens`` is reached; in their original order."""
    distinct, counts = np.unique(documents, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(distinct))
    enough = int(np.searchsorted(np.cumsum(counts[order]), tokens)) + 1
    return np.flatnonzero(np.isin(documents, distinct[order[:enough]]))


def leakage_rows(heldout: Heldout, config: LeakageConfig, work: Workspace) -> list[dict[str, Any]]:
    """CKA and Jaccard of every layer against truth, prediction and permuted prediction, with intervals."""
    permutation = np.random.default_rng(config.seed).permutation(len(heldout.documents))
    k = min(config.k, len(heldout.documents) - 1)
    sides = {"truth": heldout.truth, "prediction": heldout.predicted, "permuted": heldout.predicted[permutation]}
    near = {side: knn(values, k, search="exact").neighbours for side, values in sides.items() if side != "permuted"}
    near["permuted"] = permute_rows(near["prediction"], permutation)
    groups = document_groups(heldout.documents, min(config.groups, len(np.unique(heldout.documents))), seed=config.seed)
    rows = []
    with work.progress.task("layers", total=len(heldout.activations)) as task:
        for layer, activations in heldout.activations.items():
            own = knn(activations, k, search="exact").neighbours
            for side, values in sides.items():
                sums = GroupedCKA(activations.shape[1], values.shape[1], int(groups.max()) + 1)
                cka = sums.update(activations, values, groups).result(level=config.level).cka
                overlap = JaccardKNN(k).update(own, near[side]).result().values
                jaccard = bootstrap_mean(
                    overlap, heldout.documents, resamplings=config.bootstrap, level=config.level, seed=config.seed
                )
                rows += [row(layer, "cka", side, cka), row(layer, "jaccard", side, jaccard)]
            task.advance()
    return rows


def row(layer: int, metric: str, side: str, interval: Interval) -> dict[str, Any]:
    return {"layer": layer, "metric": metric, "versus": side, **vars(interval)}


def profiles(inputs: Any, basis: Basis) -> polars.DataFrame:
    """Mean predicted susceptibility of every cluster's members, by component, in standardised units."""
    labels = read_array(inputs["clusters"] / "labels.npy")
    count = int(labels.max(initial=-1)) + 1
    sums, sizes = np.zeros((count, len(basis.variances))), np.zeros(count)
    start = 0
    for block in Shards(inputs["upsampled"]).blocks("coordinates"):
        own = labels[start : start + len(block)]
        np.add.at(sums, own[own >= 0], block[own >= 0].astype(np.float64))
        np.add.at(sizes, own[own >= 0], 1)
        start += len(block)
    means = basis.reconstruct(sums / np.maximum(sizes, 1)[:, None])
    return polars.DataFrame(
        {
            "cluster": np.repeat(np.arange(count, dtype=np.int32), len(basis.components)),
            "component": list(basis.components) * count,
            "mean": means.ravel(),
        },
        schema={"cluster": polars.Int32, "component": polars.String, "mean": polars.Float64},
    )


def peaks(table: polars.DataFrame) -> dict[str, float]:
    """The largest value over layers of each metric against each side."""
    best = table.group_by("metric", "versus").agg(polars.col("value").max()).sort("metric", "versus")
    return {f"{metric}_{side}": value for metric, side, value in best.iter_rows()}


def make(work: Workspace, aux: AuxConfig, config: LeakageConfig) -> dict[str, Any]:
    everything = read_heldout(work.inputs, aux)
    sample = everything.take(sample_documents(everything.documents, config.tokens, config.seed))
    schema = {"layer": polars.Int32, "metric": polars.String, "versus": polars.String}
    schema |= {name: polars.Float64 for name in ("value", "low", "high")}
    leakage = polars.DataFrame(leakage_rows(sample, config, work), schema=schema)
    # Closeness is judged across the two halves of the chains: what one measurement's noise brings together, the other
    # does not confirm. Matching on the target token asks for closeness beyond being the same token.
    support = cluster_support(
        everything.measured[:, 0].astype(np.float64),
        everything.labels,
        groups=everything.tokens,
        second=everything.measured[:, 1].astype(np.float64),
        directions=True,
        permutations=config.permutations,
        min_members=config.min_members,
        seed=config.seed,
    )
    write_table(work.folder / "leakage.parquet", leakage)
    write_table(work.folder / "support.parquet", support)
    write_table(work.folder / "profiles.parquet", profiles(work.inputs, Basis.load(work.inputs["aux"])))
    supported = int((support["p_corrected"] < 1 - config.level).sum())
    facts = {"tokens": len(sample.documents), **peaks(leakage), "tested": len(support), "supported": supported}
    write_json(work.folder / "summary.json", facts)
    return facts
