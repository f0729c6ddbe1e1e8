"""What the search finds where there is nothing to find, and the conductance that it rarely goes below there.

The null is a normal of the same number of points and dimensions, standard unless the vectors are scaled otherwise,
joined and walked in the same way. The
lower tail of its sweeps' conductances is taken as exponential below u, the end of the lowest tenth,

    expected(c) = walks * share_below_u * exp(-(u - c) / mean excess below u),

which overstates the tail of a bounded quantity: a threshold put where this equals the asked number of false clusters
errs on the strict side. One threshold serves all sizes; it is set by the large sets, whose conductance is least.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from cluster.commits import search_graph
from cluster.config import ClusterConfig
from cluster.graph import graph_arrays
from cluster.neighbours import Finder, Found, Search, find_neighbours
from cluster.walkgraph import WalkGraph
from cluster.walks import Walks
from cluster.walkstate import Vector

#: A calibrated threshold is never above this: below it more of a cluster's weight stays inside than leaves
#: (a community in the weak sense of Radicchi et al., PNAS 2004).
WEAK_COMMUNITY = 0.5
TAIL_SHARE = 0.1
FEWEST_IN_TAIL = 10
#: A threshold that no set meets: every walk on the null is a rejected one and rules out what it visited.
ACCEPT_NOTHING = -1.0
#: An expectation below it is beyond any tail that can be fitted.
SMALLEST_EXPECTED = 1e-99


@dataclass(frozen=True)
class Null:
    """The search on structureless data.

    Args:
        table: The best sweep of every walk: size, conductance.
        walks: How many walks a search of all of it would commit: those in the table when it was searched to the
            end, otherwise at most one more for each vertex still unvisited.
    """

    table: pl.DataFrame
    walks: int

    def expected_below(self, conductance: float) -> float:
        """Expected number of walks on the null that find a set of at most this conductance."""
        return LowerTail.fit(self.table["conductance"].to_numpy()).share_below(conductance) * self.walks

    def depth(self, conductance: float) -> float:
        """Decades below one of the expected number of sets of at most this conductance; NaN without a null."""
        if self.walks == 0:
            return float("nan")
        return float(-np.log10(max(self.expected_below(conductance), SMALLEST_EXPECTED)))

    def threshold(self, expected_false: float) -> float:
        """The conductance below which `expected_false` sets are expected, at most `WEAK_COMMUNITY`."""
        tail = LowerTail.fit(self.table["conductance"].to_numpy())
        return float(np.clip(tail.quantile(expected_false / self.walks), 0.0, WEAK_COMMUNITY))


@dataclass(frozen=True)
class LowerTail:
    """A sorted sample whose lowest values are continued by an exponential."""

    values: Vector
    count: int

    @classmethod
    def fit(cls, sample: Vector) -> "LowerTail":
        """The tail is the lowest tenth of the sample, ten values at least."""
        wanted = max(FEWEST_IN_TAIL, int(TAIL_SHARE * len(sample)))
        return cls(np.sort(sample), min(wanted, len(sample) - 1))

    @property
    def edge(self) -> float:
        """The least value that is not in the tail."""
        return float(self.values[self.count])

    @property
    def excess(self) -> float:
        """Mean distance of the tail's values from its edge."""
        return float(np.mean(self.edge - self.values[: self.count]))

    def share_below(self, value: float) -> float:
        """Share of the distribution at or below a value: counted above the tail's edge, fitted below it."""
        if value >= self.edge:
            return float(np.searchsorted(self.values, value, side="right")) / len(self.values)
        if self.excess == 0:
            return 0.0
        return self.count / len(self.values) * float(np.exp((value - self.edge) / self.excess))

    def quantile(self, share: float) -> float:
        """The value with this share of the distribution below it."""
        below = share * len(self.values)
        if below >= self.count:
            return float(self.values[min(int(below), len(self.values) - 1)])
        return self.edge - self.excess * float(np.log(self.count / below))


def null_graph(
    points: int,
    dimensions: int,
    config: ClusterConfig,
    finder: Finder = find_neighbours,
    spread: Vector | None = None,
) -> WalkGraph:
    """The neighbour graph of a normal of this many points, its standard deviation one or that of each dimension."""
    normal = np.random.default_rng([config.seed, points, dimensions])
    vectors = normal.standard_normal((points, dimensions), dtype=np.float32)
    if spread is not None:
        vectors *= spread.astype(np.float32)
    return walk_graph(finder(vectors, config.k, Search.of(config)), config)


def walk_graph(found: Found, config: ClusterConfig) -> WalkGraph:
    """The graph of neighbours that were found."""
    return WalkGraph.from_arrays(*graph_arrays(found.distances, found.neighbours, config.weights))


def search_null(graph: WalkGraph, config: ClusterConfig, walker: Walks) -> Null:
    """Search the null's graph, stopping after `config.null_seeds` walks; the walker must accept nothing."""
    found = search_graph(graph, config, ACCEPT_NOTHING, walker, most_walks=config.null_seeds)
    return Null(found.sweeps.select("size", "conductance"), len(found.sweeps) + found.unvisited)
