"""The search: walks from unvisited seeds, accepted or ruled out one by one, until every vertex is visited.

Seeds follow one fixed permutation. They are walked in rounds, side by side, and committed in the order of the
permutation; a seed that an earlier commit visited is dropped with its walk. The outcome is that of one walk at a time,
whatever the number of threads or processes and the size of a round.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from cluster.config import ClusterConfig
from cluster.sweep import LAST, set_conductance
from cluster.walkgraph import WalkGraph
from cluster.walks import Walk, Walks
from cluster.walkstate import Vector, Vertices


@dataclass(frozen=True)
class Found:
    """Outcome of a search.

    Args:
        labels: Cluster of each vertex, -1 for none (int32).
        pagerank: Of each vertex, in the walk that found its cluster; 0 outside clusters.
        table: One row per cluster: cluster, size, conductance, volume, seed_row.
        sweeps: The best sweep of every committed walk: seed_row, size, conductance, accepted.
        unvisited: Vertices that no walk had visited when the search was stopped.
    """

    labels: Vertices
    pagerank: Vector
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
        self._rank = np.full(len(graph), LAST, np.int32)
        self.labels = np.full(len(graph), -1, np.int32)
        self.pagerank = np.zeros(len(graph))
        self.visited = np.zeros(len(graph), bool)
        self.clusters: list[tuple[int, int, float, float, int]] = []
        self.sweeps: list[tuple[int, int, float, bool]] = []

    def commit(self, walk: Walk) -> None:
        """Take the walk's cluster, or rule out later seeds by it; nothing if its seed was visited before."""
        if self.visited[walk.seed]:
            return
        self.visited[walk.seed] = True
        free = self.labels[walk.members] < 0
        members = walk.members[free]
        whole = len(members) == len(walk.members)
        conductance, volume = (walk.proposed, walk.volume) if whole else self._judge(members)
        accepted = len(members) >= self._min_size and conductance <= self._max_conductance
        if accepted:
            number = len(self.clusters)
            self.labels[members] = number
            self.pagerank[members] = walk.pagerank[free]
            self.clusters.append((number, len(members), conductance, volume, walk.seed))
        self.visited[members if accepted else walk.ruled_out] = True
        self.sweeps.append((walk.seed, walk.size, walk.conductance, accepted))

    def _judge(self, members: Vertices) -> tuple[float, float]:
        if len(members) < self._min_size:
            return 1.0, 0.0
        return set_conductance(self._graph.edges, self._graph.volume, members, self._rank)

    def result(self) -> Found:
        """Labels and tables of what was committed."""
        clusters = {"cluster": pl.Int32, "size": pl.Int32, "conductance": pl.Float64, "volume": pl.Float64}
        sweeps = {"seed_row": pl.Int64, "size": pl.Int32, "conductance": pl.Float64, "accepted": pl.Boolean}
        return Found(
            self.labels,
            self.pagerank,
            pl.DataFrame(self.clusters, schema={**clusters, "seed_row": pl.Int64}, orient="row"),
            pl.DataFrame(self.sweeps, schema=sweeps, orient="row"),
            int(np.count_nonzero(~self.visited)),
        )


def search_graph(
    graph: WalkGraph,
    config: ClusterConfig,
    max_conductance: float,
    walker: Walks,
    *,
    most_walks: int | None = None,
) -> Found:
    """Walk from every vertex that no earlier walk visited, or from the first `most_walks` of them."""
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
