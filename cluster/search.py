"""From vectors or a graph to clusters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from cluster.cohesion import cohesions
from cluster.commits import Found, search_graph
from cluster.config import ClusterConfig, Method, Visited, Weights
from cluster.graph import as_matrix
from cluster.neighbours import Finder, Search, find_neighbours
from cluster.null import ACCEPT_NOTHING, Null, null_graph, search_null, walk_graph
from cluster.pagerank import default_epsilon
from cluster.recall import Recall
from cluster.walkgraph import WalkGraph
from cluster.walks import Walker, Walks
from cluster.walkstate import Vector
from scale.errors import UserError

#: Makes the walker of a named search of a graph, for walks under a configuration and a largest conductance.
Walkers = Callable[[str, WalkGraph, ClusterConfig, float], Walks]
#: Makes what finds the neighbours of a named search.
Finders = Callable[[str], Finder]
NO_NULL = Null(pl.DataFrame(schema={"size": pl.Int32, "conductance": pl.Float64}), 0)


@dataclass(frozen=True)
class Clusters:
    """What a search found, and what the same search finds in structureless data.

    Args:
        labels: Cluster of each point, -1 for none (int32).
        pagerank: Of each point, in the walk that found its cluster; 0 outside clusters.
        table: One row per cluster: cluster, size, conductance, volume, seed_row, depth (decades below one of the
            number of sets of that conductance expected in the null), cohesion (least conductance of a cut inside).
        sweeps: The best sweep of every walk: seed_row, size, conductance, accepted.
        null: The best sweep of every walk on the null: size, conductance; empty if none was searched.
        walk_graph: The symmetric weighted graph that was searched.
        max_conductance: The largest conductance that was accepted.
        expected_false: Clusters expected at it in the null; NaN if none was searched.
        epsilon: The residual per degree at which walks stopped.
        neighbours: What share of true neighbours is in the graph; None if the graph was given.
    """

    labels: npt.NDArray[np.int32]
    pagerank: npt.NDArray[np.float64]
    table: pl.DataFrame
    sweeps: pl.DataFrame
    null: pl.DataFrame
    walk_graph: WalkGraph
    max_conductance: float
    expected_false: float
    epsilon: float
    neighbours: Recall | None

    @property
    def graph(self) -> sparse.csr_array:
        """The graph as a matrix."""
        return as_matrix(self.walk_graph.indptr, self.walk_graph.indices, self.walk_graph.weights)

    @property
    def recall(self) -> float:
        """Share of true neighbours in the graph; NaN if the graph was given."""
        return float("nan") if self.neighbours is None else self.neighbours.total


def find_clusters(
    X: Any,
    *,
    k: int = ClusterConfig.k,
    alpha: float = ClusterConfig.alpha,
    epsilon: float | None = ClusterConfig.epsilon,
    min_size: int = ClusterConfig.min_size,
    max_size: int | None = ClusterConfig.max_size,
    max_conductance: float | None = ClusterConfig.max_conductance,
    expected_false: float = ClusterConfig.expected_false,
    visited: Visited = ClusterConfig.visited,
    refine: bool = ClusterConfig.refine,
    weights: Weights = ClusterConfig.weights,
    search: Method = ClusterConfig.search,
    recall: float = ClusterConfig.recall,
    null_seeds: int = ClusterConfig.null_seeds,
    seed: int = ClusterConfig.seed,
    threads: int | None = None,
) -> Clusters:
    """Clusters among the rows of X (already whitened, if they should be), or in a symmetric scipy sparse graph.

    With a graph `max_conductance` must be given; k, weights, search, recall and the null then play no part. `threads`
    are all of the machine's by default; the clusters do not depend on them.
    """
    config = ClusterConfig(
        k=k, alpha=alpha, epsilon=epsilon, min_size=min_size, max_size=max_size, max_conductance=max_conductance,
        expected_false=expected_false, visited=visited, refine=refine, weights=weights,
        search=search, recall=recall, null_seeds=null_seeds, seed=seed,
    )  # fmt: skip
    if sparse.issparse(X):
        return cluster_graph(X, config, in_threads(threads))
    return cluster_vectors(np.asarray(X), config, in_threads(threads))


def in_threads(threads: int | None = None) -> Walkers:
    """Walkers of this process; all of the machine's threads by default."""
    return lambda name, graph, config, max_conductance: Walker(graph, config, max_conductance, threads)


def here(name: str) -> Finder:
    """Neighbours found in this process."""
    return find_neighbours


def cluster_vectors(
    X: npt.NDArray[Any],
    config: ClusterConfig,
    walkers: Walkers,
    finders: Finders = here,
    spread: Vector | None = None,
) -> Clusters:
    """Join the rows of X into a graph, calibrate on the null of the same shape, and search.

    `spread` is the standard deviation of each column of X, if it is not one.
    """
    found = finders("search")(X, config.k, Search.of(config))
    graph, recall = walk_graph(found, config), found.recall
    del found
    null = _null(X.shape, config, walkers, finders, spread) if config.null_seeds else NO_NULL
    threshold = null.threshold(config.expected_false) if config.max_conductance is None else config.max_conductance
    return _search(graph, config, threshold, null, recall, walkers)


def cluster_graph(graph: Any, config: ClusterConfig, walkers: Walkers) -> Clusters:
    """Search a graph as it is given."""
    if config.max_conductance is None:
        raise UserError("cluster.max_conductance must be given with a graph: there is no null to calibrate it on")
    return _search(WalkGraph.from_matrix(graph), config, config.max_conductance, NO_NULL, None, walkers)


def _null(
    shape: tuple[int, ...], config: ClusterConfig, walkers: Walkers, finders: Finders, spread: Vector | None
) -> Null:
    graph = null_graph(shape[0], shape[1], config, finders("null"), spread)
    return search_null(graph, config, walkers("null", graph, config, ACCEPT_NOTHING))


def _search(
    graph: WalkGraph, config: ClusterConfig, threshold: float, null: Null, recall: Recall | None, walkers: Walkers
) -> Clusters:
    found = search_graph(graph, config, threshold, walkers("search", graph, config, threshold))
    return described(graph, found, config, threshold, null, recall)


def described(
    graph: WalkGraph, found: Found, config: ClusterConfig, threshold: float, null: Null, recall: Recall | None
) -> Clusters:
    """What was found, beside the null and with the cohesion of every cluster."""
    depth = [null.depth(conductance) for conductance in found.table["conductance"]]
    return Clusters(
        labels=found.labels,
        pagerank=found.pagerank,
        table=found.table.with_columns(
            depth=pl.Series(depth, dtype=pl.Float64), cohesion=pl.Series(cohesions(graph, found.labels))
        ),
        sweeps=found.sweeps,
        null=null.table,
        walk_graph=graph,
        max_conductance=threshold,
        expected_false=null.expected_below(threshold) if null.walks else float("nan"),
        epsilon=default_epsilon(graph.volume) if config.epsilon is None else config.epsilon,
        neighbours=recall,
    )
