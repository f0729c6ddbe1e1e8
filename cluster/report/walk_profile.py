"""The sweep of a cluster: conductance of its members taken in the order of the walk that found them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scale.store import read_array

# Prefixes of which the conductance is kept, evenly spaced on a log scale.
KEPT = 60


@dataclass(frozen=True)
class Graph:
    """The graph of the search as it lies on disk, mapped: compressed rows with mean weight one."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    weights: NDArray[np.float32]


def open_graph(clusters: Path) -> Graph | None:
    """The graph in the folder of the search, or None where it was not kept."""
    folder = clusters / "graph"
    if not folder.is_dir():
        return None
    return Graph(*(read_array(folder / f"{name}.npy") for name in ("indptr", "indices", "weights")))


def walk_profile(graph: Graph, rows: NDArray[np.int64], pagerank: NDArray[np.float64]) -> tuple[list[int], list[float]]:
    """Sizes and conductances of the prefixes of `rows` in order of p / degree, with

        conductance(S) = cut(S) / min(vol(S), total - vol(S))

    Only edges of the members are read, and an edge between two of them counts from the prefix that holds both.
    """
    first, last = graph.indptr[rows], graph.indptr[rows + 1]
    owner = np.repeat(np.arange(len(rows)), last - first)
    before = np.cumsum(last - first) - (last - first)
    edges = np.arange(len(owner)) + (first - before)[owner]
    weights, others = graph.weights[edges].astype(np.float64), graph.indices[edges]
    degree = np.bincount(owner, weights, minlength=len(rows))
    order = np.lexsort((rows, -pagerank / degree))
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows))
    ascending = np.argsort(rows)
    place = np.minimum(np.searchsorted(rows[ascending], others), len(rows) - 1)
    inside = rows[ascending][place] == others
    both = np.maximum(rank[owner[inside]], rank[ascending[place[inside]]])
    within = np.cumsum(np.bincount(both, weights[inside], minlength=len(rows)))
    volume = np.cumsum(degree[order])
    conductance = (volume - within) / np.minimum(volume, np.maximum(len(graph.indices) - volume, 1e-12))
    sizes = np.unique(np.geomspace(1, len(rows), KEPT).round().astype(np.int64))
    return sizes.tolist(), conductance[sizes - 1].tolist()
