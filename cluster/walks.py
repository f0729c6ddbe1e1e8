"""Walks from unvisited seeds, swept, accepted or ruled out, until every vertex is visited.

Seeds follow one fixed permutation. They are walked in rounds, side by side, and committed in the order of the
permutation; a seed that an earlier commit visited is dropped with its walk. The outcome is that of one walk at a time,
whatever the number of threads and the size of a round.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from cluster.config import ClusterConfig
from cluster.pagerank import Vertices, WalkGraph, Workspace, clear, default_epsilon, push_walk
from cluster.sweep import innermost, set_conductance, sweep_walk


@dataclass(frozen=True)
class Walk:
    """What a walk found and what it rules out.

    Args:
        seed: The vertex it started from.
        size: Of its best prefix of at least min_size vertices; 0 if it reached too few.
        conductance: Of that prefix; 1 without one.
        members: The set it proposes as a cluster: that prefix, or a better one found by walking again from inside it.
        ruled_out: The vertices that are no seeds any more if nothing is accepted.
    """

    seed: int
    size: int
    conductance: float
    members: Vertices
    ruled_out: Vertices


class Prefix(NamedTuple):
    """The best prefix of one sweep, and the support of its walk by p / degree descending."""

    members: Vertices
    conductance: float
    order: Vertices


class Walker:
    """Runs walks on one graph in threads, each with a workspace of its own (32 bytes for each vertex)."""

    def __init__(
        self, graph: WalkGraph, config: ClusterConfig, max_conductance: float, threads: int | None = None
    ) -> None:
        self._graph = graph
        self._config = config
        self._max_conductance = max_conductance
        self._epsilon = default_epsilon(graph.volume) if config.epsilon is None else config.epsilon
        self._threads = threads or os.cpu_count() or 1
        self._spaces: SimpleQueue[Workspace] = SimpleQueue()
        for _ in range(self._threads):
            self._spaces.put(Workspace(len(graph)))

    def walks(self, seeds: npt.NDArray[np.int64]) -> list[Walk]:
        """One walk per seed, in the order of the seeds."""
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(self._walk, seeds.tolist()))

    def _walk(self, seed: int) -> Walk:
        space = self._spaces.get()
        found = self._best_prefix(seed, space)
        members = found.members
        if self._config.refine and found.conductance <= self._max_conductance:
            again = self._best_prefix(self._innermost(members, space), space)
            members = again.members if again.conductance < found.conductance else members
        self._spaces.put(space)
        return Walk(seed, len(found.members), found.conductance, members, self._ruled_out(found))

    def _best_prefix(self, seed: int, space: Workspace) -> Prefix:
        touched = push_walk(self._graph, seed, self._config.alpha, self._epsilon, space)
        support = np.sort(touched[space.p[touched] > 0])
        found = sweep_walk(self._graph, space.p, support, space.rank, self._graph.volume / 2)
        clear(touched, space.p, space.r)
        size = found.best_size(self._config.min_size)
        conductance = float(found.conductance[size - 1]) if size else 1.0
        return Prefix(found.order[:size], conductance, found.order if size else support)

    def _innermost(self, members: Vertices, space: Workspace) -> int:
        graph = self._graph
        return int(innermost(graph.indptr, graph.indices, graph.weights, graph.degree, members, space.rank))

    def _ruled_out(self, found: Prefix) -> Vertices:
        share = {
            "support": len(found.order),
            "best-prefix": len(found.members),
            "core": min(self._config.min_size, len(found.members)),
            "seed": 0,
        }
        return found.order[: share[self._config.visited]].copy()


@dataclass(frozen=True)
class Found:
    """Outcome of a search.

    Args:
        labels: Cluster of each vertex, -1 for none (int32).
        table: One row per cluster: cluster, size, conductance, volume, seed_row.
        sweeps: The best sweep of every committed walk: seed_row, size, conductance, accepted.
        unvisited: Vertices that no walk had visited when the search was stopped.
    """

    labels: Vertices
    table: pl.DataFrame
    sweeps: pl.DataFrame
    unvisited: int


class Commits:
    """Accepts walks one by one. A vertex belongs to the first cluster that takes it.

    A proposed set that overlaps earlier clusters is judged without them: what is left of it must itself have
    min_size vertices and a conductance of at most max_conductance.
    """

    def __init__(self, graph: WalkGraph, min_size: int, max_conductance: float) -> None:
        self._graph = graph
        self._min_size = min_size
        self._max_conductance = max_conductance
        self._rank = np.full(len(graph), -1, np.int32)
        self.labels = np.full(len(graph), -1, np.int32)
        self.visited = np.zeros(len(graph), bool)
        self.clusters: list[tuple[int, int, float, float, int]] = []
        self.sweeps: list[tuple[int, int, float, bool]] = []

    def commit(self, walk: Walk) -> None:
        """Take the walk's cluster, or rule out later seeds by it; nothing if its seed was visited before."""
        if self.visited[walk.seed]:
            return
        self.visited[walk.seed] = True
        members = walk.members[self.labels[walk.members] < 0]
        conductance, volume = self._judge(members)
        accepted = len(members) >= self._min_size and conductance <= self._max_conductance
        if accepted:
            number = len(self.clusters)
            self.labels[members] = number
            self.clusters.append((number, len(members), conductance, volume, walk.seed))
        self.visited[members if accepted else walk.ruled_out] = True
        self.sweeps.append((walk.seed, walk.size, walk.conductance, accepted))

    def _judge(self, members: Vertices) -> tuple[float, float]:
        graph = self._graph
        return set_conductance(
            graph.indptr, graph.indices, graph.weights, graph.degree, graph.volume, members, self._rank
        )

    def result(self) -> Found:
        """Labels and tables of what was committed."""
        clusters = {"cluster": pl.Int32, "size": pl.Int32, "conductance": pl.Float64, "volume": pl.Float64}
        sweeps = {"seed_row": pl.Int64, "size": pl.Int32, "conductance": pl.Float64, "accepted": pl.Boolean}
        return Found(
            self.labels,
            pl.DataFrame(self.clusters, schema={**clusters, "seed_row": pl.Int64}, orient="row"),
            pl.DataFrame(self.sweeps, schema=sweeps, orient="row"),
            int(np.count_nonzero(~self.visited)),
        )


def search_graph(
    graph: WalkGraph,
    config: ClusterConfig,
    max_conductance: float,
    *,
    most_walks: int | None = None,
    threads: int | None = None,
) -> Found:
    """Walk from every vertex that no earlier walk visited, or from the first `most_walks` of them."""
    walker = Walker(graph, config, max_conductance, threads)
    commits = Commits(graph, config.min_size, max_conductance)
    order = np.random.default_rng(config.seed).permutation(len(graph))
    most = len(graph) if most_walks is None else most_walks
    while len(order) and len(commits.sweeps) < most:
        order = order[~commits.visited[order]]
        seeds, order = np.split(order, [config.round_size])
        for walk in walker.walks(seeds):
            if len(commits.sweeps) < most:
                commits.commit(walk)
    return commits.result()
