"""Would the same clusters be found again? Walks from other members of a cluster, on the same graph or on another.

A cluster is *recovered* by a walk from one of its members as far as the set that the walk proposes is the cluster: the
Jaccard index of the two. The graph may be that of the search (other seeds), what is left of it without some documents,
or one made of other vectors of the same tokens. Legend: N vertices, C clusters, R repeats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy import sparse
from scipy.stats import hypergeom

from cluster.config import ClusterConfig
from cluster.graph import graph_from_neighbours
from cluster.neighbours import knn
from cluster.search import Walkers, find_clusters, in_threads
from cluster.walkgraph import WalkGraph
from cluster.whitening import whiten

SCHEMA = {"cluster": pl.Int32, "change": pl.String, "members": pl.Int32} | dict.fromkeys(
    ("recovery", "low", "high", "p"), pl.Float64
)


@dataclass(frozen=True)
class Recovery:
    """Of the clusters with enough members, numbers `clusters` (C).

    Args:
        members: In the graph (C).
        jaccard: With the set proposed by each walk (C, R).
        p: One-sided, that the first walk's set holds as many further members by chance (C).
    """

    clusters: np.ndarray
    members: np.ndarray
    jaccard: np.ndarray
    p: np.ndarray

    def table(self, change: str) -> pl.DataFrame:
        """One row per cluster, with the least and the largest Jaccard index over the walks."""
        columns = (
            self.clusters, [change] * len(self.clusters), self.members, self.jaccard.mean(axis=1),
            self.jaccard.min(axis=1), self.jaccard.max(axis=1), self.p,
        )  # fmt: skip
        return pl.DataFrame(dict(zip(SCHEMA, columns, strict=True)), schema=SCHEMA)


def recovery(
    graph: WalkGraph,
    labels: np.ndarray,
    config: ClusterConfig,
    max_conductance: float,
    *,
    repeats: int,
    min_members: int,
    seed: int,
    walkers: Walkers | None = None,
) -> Recovery:
    """Walk `repeats` times into every cluster of `labels` (N) with at least `min_members`, from members at random.

    The p-value takes the members but for the seed as a random subset of the other vertices, which the walk, knowing
    nothing of them, then meets by chance (hypergeometric).
    """
    assert len(graph) == len(labels), (len(graph), len(labels))
    clusters, sizes = np.unique(labels[labels >= 0], return_counts=True)
    clusters, sizes = clusters[sizes >= min_members], sizes[sizes >= min_members]
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == cluster) for cluster in clusters]
    seeds = np.array([rng.choice(rows, repeats, replace=len(rows) < repeats) for rows in members], dtype=np.int64)
    seeds = seeds.reshape(len(clusters), repeats)
    walker = (walkers or in_threads())("stability", graph, config, max_conductance)
    walks = walker.walks(seeds.ravel())
    proposed = np.array([len(walk.members) for walk in walks]).reshape(seeds.shape)
    shared = np.array([(labels[walk.members] == labels[walk.seed]).sum() for walk in walks]).reshape(seeds.shape)
    jaccard = shared / np.maximum(proposed + sizes[:, None] - shared, 1)
    # The seed itself is a member whatever the walk finds; it may have been left out of the set by a second walk.
    held = np.array([walk.seed in walk.members for walk in walks]).reshape(seeds.shape)
    drawn, met = (proposed - held)[:, 0], (shared - held)[:, 0]
    p = hypergeom.sf(met - 1, len(labels) - 1, sizes - 1, drawn)
    return Recovery(clusters, sizes, jaccard, p)


def induced(graph: sparse.csr_array, rows: np.ndarray) -> WalkGraph:
    """The graph between some of its vertices."""
    return WalkGraph.from_matrix(sparse.csr_array(graph[rows][:, rows]))


def resampled_documents(documents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of the documents that a bootstrap sample of them holds, each once: a copy would be its own neighbour."""
    distinct = np.unique(documents)
    return np.flatnonzero(np.isin(documents, rng.choice(distinct, len(distinct))))


def neighbour_graph(vectors: np.ndarray, config: ClusterConfig) -> WalkGraph:
    """The graph that a search of these vectors walks on: whitened, joined to their nearest neighbours."""
    own = whitened_rows(vectors, config)
    distances, neighbours, _ = knn(own, min(config.k, len(own) - 1), recall=config.recall, seed=config.seed)
    return WalkGraph.from_matrix(graph_from_neighbours(distances, neighbours, weights=config.weights))


def whitened_rows(vectors: np.ndarray, config: ClusterConfig) -> np.ndarray:
    own = np.asarray(vectors, dtype=np.float32)
    found: np.ndarray = whiten(own, rtol=config.rtol, n_components=config.n_components).transform(own)
    return found


def clusters_of(graph: WalkGraph, config: ClusterConfig, max_conductance: float) -> np.ndarray:
    """Labels of a search at a threshold that is known."""
    matrix = sparse.csr_array((graph.weights, graph.indices, graph.indptr), shape=(len(graph), len(graph)))
    found = find_clusters(
        matrix, alpha=config.alpha, epsilon=config.epsilon, min_size=config.min_size, max_size=config.max_size,
        max_conductance=max_conductance, visited=config.visited, refine=config.refine, seed=config.seed,
    )  # fmt: skip
    return found.labels


def for_small_clusters(config: ClusterConfig, min_members: int) -> ClusterConfig:
    """The search as it is asked for, with sets of `min_members` allowed: a sample holds a part of every cluster."""
    return replace(config, min_size=min(config.min_size, min_members))
