"""Walks from many seeds, side by side: what each of them proposes, whatever else is walked before or after it."""

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cluster.config import ClusterConfig
from cluster.pagerank import default_epsilon
from cluster.sweep import by_density, innermost, sweep_prefixes
from cluster.walkgraph import WalkGraph
from cluster.walkstate import Vector, Vertices
from cluster.workspace import Workspace


@dataclass(frozen=True)
class Walk:
    """What a walk found and what it rules out.

    Args:
        seed: The vertex it started from.
        size: Of its best prefix within the sizes asked for; 0 if it reached too few.
        conductance: Of that prefix; 1 without one.
        members: The set it proposes as a cluster: that prefix, or a better one found by walking again from inside it.
        proposed: Conductance of the members.
        volume: Of the members.
        pagerank: Of the members, in the walk that proposes them.
        ruled_out: The vertices that are no seeds any more if nothing is accepted.
    """

    seed: int
    size: int
    conductance: float
    members: Vertices
    proposed: float
    volume: float
    pagerank: Vector
    ruled_out: Vertices


class Walks(Protocol):
    """Where seeds are walked: here, or read from what was walked before."""

    def walks(self, seeds: npt.NDArray[np.int64]) -> Sequence[Walk]:
        """One walk per seed, in the order of the seeds."""


class Prefix(NamedTuple):
    """The best prefix of one sweep; all vertices with PageRank by p / degree descending, and the walk's own numbers."""

    members: Vertices
    pagerank: Vector
    conductance: float
    volume: float
    order: Vertices
    numbers: Vertices


class Walker:
    """Runs walks on one graph in threads, each with a workspace of its own: four bytes a vertex and what it reaches."""

    def __init__(
        self, graph: WalkGraph, config: ClusterConfig, max_conductance: float, threads: int | None = None
    ) -> None:
        self._graph = graph
        self._config = config
        self._max_conductance = max_conductance
        self._epsilon = default_epsilon(graph.volume) if config.epsilon is None else config.epsilon
        self._spaces = [Workspace(graph) for _ in range(threads or os.cpu_count() or 1)]

    def walks(self, seeds: npt.NDArray[np.int64]) -> Sequence[Walk]:
        """One walk per seed, in the order of the seeds; a thread takes the next seed when it is done with one."""
        found: list[Any] = [None] * len(seeds)
        turn = itertools.count()

        def walk_in(space: Workspace) -> None:
            while (place := next(turn)) < len(seeds):
                found[place] = self._walk(int(seeds[place]), space)

        if len(self._spaces) == 1:
            walk_in(self._spaces[0])
        else:
            with ThreadPoolExecutor(len(self._spaces)) as pool:
                list(pool.map(walk_in, self._spaces))
        return found

    def _walk(self, seed: int, space: Workspace) -> Walk:
        first = self._best_prefix(seed, space)
        best = first
        if self._config.refine and len(first.members) and first.conductance <= self._max_conductance:
            again = self._best_prefix(self._innermost(first, space), space)
            best = again if again.conductance < first.conductance else first
        size = len(first.members)
        return Walk(
            seed, size, first.conductance, best.members, best.conductance, best.volume, best.pagerank,
            self._ruled_out(first),
        )  # fmt: skip

    def _best_prefix(self, seed: int, space: Workspace) -> Prefix:
        space.walk(seed, self._config.alpha, self._epsilon)
        order = space.opened[by_density(space.p, space.degree, space.reached[space.opened])]
        swept = sweep_prefixes(
            space.here, self._graph.volume, order[: self._config.max_size], len(space.reached), self._graph.volume / 2
        )
        size = swept.best_size(self._config.min_size)
        conductance = float(swept.conductance[size - 1]) if size else 1.0
        volume = float(swept.volume[size - 1]) if size else 0.0
        members = order[:size]
        return Prefix(
            space.reached[members], space.state.p[members], conductance, volume, space.reached[order], order
        )  # fmt: skip

    @staticmethod
    def _innermost(found: Prefix, space: Workspace) -> int:
        """The member with the largest share of its weight inside, while the walk that found it is in the workspace."""
        number = innermost(space.here, found.numbers, len(found.members), len(space.reached))
        return int(space.reached[number])

    def _ruled_out(self, found: Prefix) -> Vertices:
        share = {
            "support": len(found.order),
            "best-prefix": len(found.members),
            "core": min(self._config.min_size, len(found.members)),
            "seed": 0,
        }
        return found.order[: share[self._config.visited]].copy()
