"""Stage `clusters`: whitening, kNN graph, localized PageRank, clusters, and the null they are held against.

Reads upsampled/, and what aux/ says of the accuracy of every PC. Writes ``whitening.safetensors``, ``graph/`` (indptr,
indices, weights), ``labels.npy``, ``clusters.parquet``, ``members.parquet``, ``sweeps.parquet``, ``null.parquet`` and
``recall.parquet``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars

from cluster.config import ClusterConfig
from cluster.items import ItemWalks, write_graph
from cluster.neighbour_items import ItemNeighbours
from cluster.recall import Recall
from cluster.search import Clusters, Finders, Walkers, cluster_vectors
from cluster.walkgraph import WalkGraph
from cluster.whitening import Whitening
from scale.engine import Workspace
from scale.errors import UserError
from scale.store import Shards, read_table, write_array, write_table, written

#: Hold the walks and the neighbours of an unfinished search.
WALKS, NEIGHBOURS = "walks", "neighbours"


def save_whitening(folder: Path, whitening: Whitening) -> None:
    from safetensors.numpy import save_file

    names = ("mean", "components", "variances", "spread")
    arrays = {name: np.ascontiguousarray(getattr(whitening, name)) for name in names}
    with written(folder / "whitening.safetensors") as temporary:
        save_file(arrays, temporary)


def fitted(upsampled: Path, aux: Path, config: ClusterConfig) -> Whitening:
    """Fitted on all predicted coordinates, shard by shard, and scaled as asked."""
    blocks = Shards(upsampled).blocks("coordinates")
    whitening = Whitening.fit_stream(blocks, rtol=config.rtol, n_components=config.n_components)
    if config.whitening == "reliability":
        return whitening.to_signal(prediction_reliability(aux))
    return whitening.to_variance() if config.whitening == "none" else whitening


def prediction_reliability(aux: Path) -> np.ndarray:
    """The share of each predicted PC's variance that is signal: its squared correlation with the true PC.

    A prediction that correlates by r with a measurement at other draws, which itself correlates by c with the truth,
    correlates by r / c with the truth.
    """
    table = read_table(aux / "accuracy.parquet")
    r, c = (np.maximum(table[name].to_numpy(), 0) for name in ("pearson", "ceiling"))
    return np.minimum(np.divide(r, c, out=np.zeros_like(r), where=c > 0), 1) ** 2


def transformed(upsampled: Path, whitening: Whitening) -> np.ndarray:
    """All predicted coordinates after whitening, float32."""
    shards = Shards(upsampled)
    vectors, filled = np.empty((sum(map(len, shards.blocks("coordinates"))), len(whitening.variances)), np.float32), 0
    for block in shards.blocks("coordinates"):
        vectors[filled : filled + len(block)] = whitening.transform(block)
        filled += len(block)
    return vectors


def members_table(rows: polars.DataFrame, found: Clusters, vectors: np.ndarray) -> polars.DataFrame:
    """Every clustered token, by cluster and distance to the cluster's mean."""
    labels = found.labels
    inside = np.flatnonzero(labels >= 0)
    own = labels[inside]
    count = int(own.max(initial=-1)) + 1
    sums = np.zeros((count, vectors.shape[1]))
    np.add.at(sums, own, vectors[inside].astype(np.float64))
    means = sums / np.maximum(np.bincount(own, minlength=count), 1)[:, None]
    distance = np.linalg.norm(vectors[inside] - means[own], axis=1)
    placed = rows[inside].select("row", "context", "position", "token", "document", "split")
    described = placed.with_columns(
        cluster=polars.Series(own, dtype=polars.Int32),
        distance=polars.Series(distance),
        pagerank=polars.Series(found.pagerank[inside]),
    )
    columns = ("cluster", "row", "context", "position", "token", "document", "split", "distance", "pagerank")
    return described.sort("cluster", "distance", "row").select(columns)


def write_clusters(folder: Path, found: Clusters, rows: polars.DataFrame, vectors: np.ndarray) -> None:
    for name, array in (
        ("indptr", found.walk_graph.indptr),
        ("indices", found.walk_graph.indices),
        ("weights", found.walk_graph.weights),
    ):
        write_array(folder / "graph" / f"{name}.npy", array)
    write_array(folder / "labels.npy", found.labels)
    write_table(folder / "clusters.parquet", found.table)
    write_table(folder / "sweeps.parquet", found.sweeps)
    write_table(folder / "null.parquet", found.null)
    write_table(folder / "members.parquet", members_table(rows, found, vectors))


def in_items(work: Workspace) -> Walkers:
    """Walkers whose walks are kept until the stage is done, for a process that goes on after one that was stopped."""

    def walker(name: str, graph: WalkGraph, config: ClusterConfig, max_conductance: float) -> ItemWalks:
        folder = work.folder / WALKS / name
        write_graph(folder / "graph", graph)
        return ItemWalks(folder, config, max_conductance, work.engine)

    return walker


def neighbours_in_items(work: Workspace) -> Finders:
    """Neighbours that are kept likewise."""
    return lambda name: ItemNeighbours(work.folder / NEIGHBOURS / name, work.engine, work.progress)


def recall_facts(recall: Recall, labels: np.ndarray) -> dict[str, Any]:
    """What share of true neighbours is in the graph: by density, which was known before, and by cluster."""
    return {
        "recall": recall.total,
        "recall_densest": recall.dense,
        "recall_sparsest": recall.sparse,
        "recall_clustered": recall.inside(labels >= 0),
        "recall_unclustered": recall.inside(labels < 0),
        "recall_sample": len(recall.rows),
    }


def make(work: Workspace, config: ClusterConfig) -> dict[str, Any]:
    upsampled = work.inputs["upsampled"]
    rows = read_table(upsampled / "rows.parquet")
    if config.k >= len(rows):
        raise UserError(
            f"cluster.k: {config.k} neighbours need more than {len(rows)} tokens; lower it or upsample more"
        )
    whitening = fitted(upsampled, work.inputs["aux"], config)
    vectors = transformed(upsampled, whitening)
    save_whitening(work.folder, whitening)
    work.progress.say(f"  {len(vectors)} tokens in {vectors.shape[1]} dimensions; graph, null and search")
    found = cluster_vectors(vectors, config, in_items(work), neighbours_in_items(work), whitening.spread)
    assert found.neighbours is not None
    write_clusters(work.folder, found, rows, vectors)
    write_table(work.folder / "recall.parquet", found.neighbours.table())
    for name in (WALKS, NEIGHBOURS):
        shutil.rmtree(work.folder / name)
    return {
        "rows": len(rows),
        "dimensions": vectors.shape[1],
        "clusters": len(found.table),
        "clustered_share": float((found.labels >= 0).mean()),
        "max_conductance": found.max_conductance,
        "expected_false": found.expected_false,
        **recall_facts(found.neighbours, found.labels),
        "epsilon": found.epsilon,
        "alpha": config.alpha,
        "k": config.k,
    }
