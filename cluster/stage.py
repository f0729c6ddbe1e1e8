"""Stage `clusters`: whitening, kNN graph, localized PageRank, clusters, and the null they are held against.

Reads upsampled/. Writes ``whitening.safetensors``, ``graph/`` (indptr, indices, weights), ``labels.npy``,
``clusters.parquet``, ``members.parquet``, ``sweeps.parquet`` and ``null.parquet``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars

from cluster.config import ClusterConfig
from cluster.search import Clusters, cluster_vectors
from cluster.whitening import Whitening
from scale.engine import Workspace
from scale.errors import UserError
from scale.store import Shards, read_table, write_array, write_table


def save_whitening(folder: Path, whitening: Whitening) -> None:
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(getattr(whitening, name)) for name in ("mean", "components", "variances")}
    save_file(arrays, folder / "whitening.safetensors")


def whitened(upsampled: Path, config: ClusterConfig) -> tuple[Whitening, np.ndarray]:
    """Fit on all predicted coordinates, shard by shard, and transform them, float32."""
    shards = Shards(upsampled)
    whitening = Whitening.fit_stream(shards.blocks("coordinates"), rtol=config.rtol, n_components=config.n_components)
    return whitening, np.concatenate([whitening.transform(block) for block in shards.blocks("coordinates")])


def members_table(rows: polars.DataFrame, labels: np.ndarray, vectors: np.ndarray) -> polars.DataFrame:
    """Every clustered token, by cluster and distance to the cluster's mean."""
    inside = np.flatnonzero(labels >= 0)
    own = labels[inside]
    count = int(own.max(initial=-1)) + 1
    sums = np.zeros((count, vectors.shape[1]))
    np.add.at(sums, own, vectors[inside].astype(np.float64))
    means = sums / np.maximum(np.bincount(own, minlength=count), 1)[:, None]
    distance = np.linalg.norm(vectors[inside] - means[own], axis=1)
    placed = rows[inside].select("row", "context", "position", "token", "document", "split")
    found = placed.with_columns(cluster=polars.Series(own, dtype=polars.Int32), distance=polars.Series(distance))
    ordered = found.sort("cluster", "distance", "row")
    return ordered.select("cluster", "row", "context", "position", "token", "document", "split", "distance")


def write_clusters(folder: Path, found: Clusters, rows: polars.DataFrame, vectors: np.ndarray) -> None:
    for name, array in (
        ("indptr", found.graph.indptr),
        ("indices", found.graph.indices),
        ("weights", found.graph.data),
    ):
        write_array(folder / "graph" / f"{name}.npy", array)
    write_array(folder / "labels.npy", found.labels)
    write_table(folder / "clusters.parquet", found.table)
    write_table(folder / "sweeps.parquet", found.sweeps)
    write_table(folder / "null.parquet", found.null)
    write_table(folder / "members.parquet", members_table(rows, found.labels, vectors))


def make(work: Workspace, config: ClusterConfig) -> dict[str, Any]:
    upsampled = work.inputs["upsampled"]
    rows = read_table(upsampled / "rows.parquet")
    if config.k >= len(rows):
        raise UserError(
            f"cluster.k: {config.k} neighbours need more than {len(rows)} tokens; lower it or upsample more"
        )
    whitening, vectors = whitened(upsampled, config)
    save_whitening(work.folder, whitening)
    work.progress.say(f"  {len(vectors)} tokens in {vectors.shape[1]} dimensions; graph, null and search")
    found = cluster_vectors(vectors, config)
    write_clusters(work.folder, found, rows, vectors)
    return {
        "rows": len(rows),
        "dimensions": vectors.shape[1],
        "clusters": len(found.table),
        "clustered_share": float((found.labels >= 0).mean()),
        "max_conductance": found.max_conductance,
        "expected_false": found.expected_false,
        "recall": found.recall,
        "epsilon": found.epsilon,
        "alpha": config.alpha,
        "k": config.k,
    }
