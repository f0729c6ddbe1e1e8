"""The stability of a run's clusters: on its own graph, without some documents, and in what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from cluster.config import ClusterConfig
from cluster.items import GRAPH_ARRAYS
from cluster.walkgraph import WalkGraph
from eval.agreement import Agreement, agreement
from eval.config import LeakageConfig
from eval.stability import SCHEMA, clusters_of, for_small_clusters, induced, recovery, resampled_documents
from scale.store import read_array, read_table

SEEDS, DOCUMENTS = "other seeds", "resampled documents"


def on_the_run(
    inputs: Mapping[str, Path], search: ClusterConfig, max_conductance: float, config: LeakageConfig
) -> pl.DataFrame:
    """Walks from other members over the graph of the search, and over those of bootstrapped documents."""
    if config.repeats == 0:
        return pl.DataFrame(schema=SCHEMA)
    arrays = [read_array(inputs["clusters"] / "graph" / f"{name}.npy") for name in GRAPH_ARRAYS]
    labels = np.array(read_array(inputs["clusters"] / "labels.npy"))
    documents = read_table(inputs["upsampled"] / "rows.parquet")["document"].to_numpy()
    settings: dict[str, Any] = {"min_members": config.min_members, "seed": config.seed}
    whole = recovery(
        WalkGraph.from_arrays(*arrays), labels, search, max_conductance, repeats=config.repeats, **settings
    )
    indptr, indices, weights = arrays
    graph = sparse.csr_array((weights, indices, indptr), shape=(len(labels), len(labels)))
    found = [whole.table(SEEDS)]
    rng = np.random.default_rng(config.seed)
    for repeat in range(config.repeats):
        rows = resampled_documents(documents, rng)
        own = recovery(induced(graph, rows), labels[rows], search, max_conductance, repeats=1, **settings)
        found.append(own.table(DOCUMENTS).with_columns(repeat=pl.lit(repeat)))
    return _joined(found)


def _joined(found: list[pl.DataFrame]) -> pl.DataFrame:
    """One row per cluster and change; of the resampled ones mean, least and largest over the repeats."""
    resampled = pl.concat(found[1:]).group_by("cluster", "change", maintain_order=True).agg(
        pl.col("members").mean().cast(pl.Int32),
        pl.col("recovery").mean(),
        low=pl.col("recovery").min(),
        high=pl.col("recovery").max(),
        p=pl.lit(None, dtype=pl.Float64),
    )  # fmt: skip
    # On the graph they were found in, a cluster's members are no random subset.
    own = found[0].with_columns(p=pl.lit(None, dtype=pl.Float64))
    return pl.concat([own, resampled.select(list(SCHEMA))])


def in_the_sample(
    graphs: Mapping[str, WalkGraph],
    labels: np.ndarray,
    search: ClusterConfig,
    max_conductance: float,
    config: LeakageConfig,
) -> pl.DataFrame:
    """The run's clusters looked for among held-out tokens, in graphs of predictions and of measurements."""
    if config.repeats == 0:
        return pl.DataFrame(schema=SCHEMA)
    small = for_small_clusters(search, config.min_members)
    settings: dict[str, Any] = {
        "repeats": config.repeats, "min_members": config.min_members, "seed": config.seed,
    }  # fmt: skip
    found = {change: recovery(graph, labels, small, max_conductance, **settings) for change, graph in graphs.items()}
    return pl.concat([own.table(change) for change, own in found.items()])


def truth_and_prediction(
    truth: WalkGraph, prediction: WalkGraph, search: ClusterConfig, max_conductance: float, config: LeakageConfig
) -> tuple[Agreement, int, int]:
    """How far clusters of the measured and of the predicted coordinates of the same tokens agree, and their numbers."""
    one, other = (clusters_of(graph, search, max_conductance) for graph in (truth, prediction))
    return agreement(one, other, config.seed), int(one.max(initial=-1)) + 1, int(other.max(initial=-1)) + 1


def for_the_sample(search: ClusterConfig, rows: int) -> ClusterConfig:
    """The search of a smaller set of tokens: no more neighbours than there are."""
    return replace(search, k=min(search.k, rows - 1))
