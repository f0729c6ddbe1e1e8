"""The scratch of one thread: it grows with what walks reach; only `number` is as long as the graph."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.push import start, walk_on
from cluster.walkgraph import WalkGraph
from cluster.walkstate import COPIED, COUNTERS, DONE, OPENED, REACHED, Edges, Reached, Vector, Vertices

FIRST_VERTICES, FIRST_EDGES = 1 << 12, 1 << 16


class Workspace:
    """One walk at a time on one graph.

    Args:
        here: The edges of the vertices that the walk pushed, between the walk's own numbers.
        state: What the walk holds of each vertex it reached.
        counters: Of the walk (`cluster.push`).
    """

    def __init__(self, graph: WalkGraph) -> None:
        self.graph = graph
        self.number = np.full(len(graph), -1, np.int32)
        self.counters = np.zeros(COUNTERS, np.int64)
        self.here, self.state = _allocate(FIRST_VERTICES, FIRST_EDGES, graph.weights.dtype)

    def walk(self, seed: int, alpha: float, epsilon: float) -> None:
        """Push from one seed until r < epsilon * degree everywhere; what the walk before left is forgotten."""
        self.number[self.reached] = -1
        start(seed, epsilon, self.number, self.graph.edges, self.here, self.state, self.counters)
        arguments = (alpha, epsilon, self.number, self.graph.edges)
        while walk_on(*arguments, self.here, self.state, self.counters) != DONE:
            self._grow()

    @property
    def reached(self) -> Vertices:
        """The vertices with p > 0 or r > 0, in the order in which mass came to them."""
        return self.state.vertex[: self.counters[REACHED]]

    @property
    def opened(self) -> Vertices:
        """The walk's own numbers of those with p > 0."""
        return self.state.opened[: self.counters[OPENED]]

    @property
    def p(self) -> Vector:
        """PageRank of every vertex in `opened`."""
        return self.state.p[self.opened]

    @property
    def degree(self) -> Vector:
        """Of every vertex in `opened`."""
        return self.here.degree[self.opened]

    @property
    def r(self) -> Vector:
        """Residual of every vertex in `reached`."""
        return self.state.r[: self.counters[REACHED]]

    @property
    def scratch(self) -> int:
        """Bytes held beyond the four for each vertex of the graph."""
        return sum(array.nbytes for array in (*self.here, *self.state))

    def _grow(self) -> None:
        """Twice the room for whatever the next vertex may not find room for."""
        vertices, edges = len(self.state.vertex), len(self.here.neighbours)
        if self.counters[REACHED] + self.graph.widest >= vertices:
            vertices *= 2
        if self.counters[COPIED] + self.graph.widest > edges:
            edges *= 2
        here, state = _allocate(vertices, edges, self.graph.weights.dtype)
        _fill(here, self.here)
        _fill(state, self.state)
        self.here, self.state = here, state


def _fill(larger: tuple[npt.NDArray[Any], ...], filled: tuple[npt.NDArray[Any], ...]) -> None:
    for new, old in zip(larger, filled, strict=True):
        new[..., : old.shape[-1]] = old


def _allocate(vertices: int, edges: int, weights: np.dtype) -> tuple[Edges, Reached]:
    def numbers() -> Vector:
        return np.zeros(vertices)

    places = (np.empty(vertices, np.int64), np.empty(vertices, np.int64))
    here = Edges(*places, np.empty(edges, np.int32), np.empty(edges, weights), numbers())
    lists = np.empty(vertices, np.int32), np.empty((2, vertices), np.int32)
    vertex = np.empty(vertices, np.int32)
    return here, Reached(vertex, numbers(), numbers(), *lists, numbers(), numbers(), numbers(), numbers())
