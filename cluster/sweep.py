"""Sweep cuts: the conductance of every prefix of the vertices ordered by p / degree.

For a set S with cut(S) the weight that leaves it and vol(S) the sum of its degrees (inside weight counted from both
ends, a self-loop once),

    conductance(S) = cut(S) / min(vol(S), vol(all) - vol(S)).

A set without volume, or whose complement has none, has conductance 1: it is never the better cut.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy import sparse

from cluster.walkgraph import WalkGraph
from cluster.walkstate import Edges, Vector, Vertices
from scale.errors import UserError

#: Volume, as a share of the graph's, that is no more than the rounding of sums.
ROUNDING = 1e-12
#: Rank of a vertex that is in no prefix.
LAST = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Sweep:
    """Vertices by p / degree descending (ties by number) and what each prefix of them is worth.

    Args:
        order: The vertices with p > 0.
        conductance: Of the first i + 1 vertices of `order`.
        volume: Of the same.
    """

    order: Vertices
    conductance: Vector
    volume: Vector

    @property
    def best(self) -> Vertices:
        """The prefix of least conductance, the shortest of equals."""
        return self.order[: self.best_size(1)]

    def best_size(self, min_size: int) -> int:
        """Size of the prefix of least conductance among those of at least `min_size` vertices; 0 if there is none."""
        if len(self.order) < min_size:
            return 0
        return min_size + int(np.argmin(self.conductance[min_size - 1 :]))


def sweep_cut(graph: Any, p: Any) -> Sweep:
    """Sweep every prefix of the vertices with p > 0.

    `graph` is a symmetric scipy sparse matrix or a `WalkGraph`; `p` a dense vector or a sparse column.
    """
    walk_graph = graph if isinstance(graph, WalkGraph) else WalkGraph.from_matrix(graph)
    dense = p.toarray() if sparse.issparse(p) else np.asarray(p)
    values = np.ascontiguousarray(dense, dtype=np.float64).ravel()
    if len(values) != len(walk_graph):
        raise UserError(f"p has {len(values)} entries and the graph {len(walk_graph)} vertices")
    support = np.flatnonzero(values > 0).astype(np.int32)
    order = support[by_density(values[support], walk_graph.degree[support], support)]
    return sweep_prefixes(walk_graph.edges, walk_graph.volume, order, len(walk_graph), np.inf)


def by_density(p: Vector, degree: Vector, vertices: Vertices) -> npt.NDArray[np.int64]:
    """Positions by p / degree descending, equals by their vertices' numbers."""
    with np.errstate(divide="ignore"):
        density = p / degree
    order = np.argsort(-density)
    sort_ties(order, density, vertices)
    return order


def sweep_prefixes(edges: Edges, total: float, order: Vertices, vertices: int, most_volume: float) -> Sweep:
    """Sweep `order` in a graph of `vertices` and volume `total`, to the last prefix of volume at most `most_volume`."""
    conductance, volume = sweep(edges, total, order, np.full(vertices, LAST, np.int32), most_volume)
    return Sweep(order[: len(volume)], conductance, volume)


@numba.njit(cache=True, nogil=True)
def sort_ties(order, density, vertices):  # type: ignore[no-untyped-def]
    """Order runs of equal density by the vertices' numbers."""
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and density[order[end]] == density[order[begin]]:
            end += 1
        if end - begin > 1:
            run = order[begin:end].copy()
            order[begin:end] = run[np.argsort(vertices[run])]
        begin = end


@numba.njit(cache=True, nogil=True)
def sweep(edges, total, order, rank, most_volume):  # type: ignore[no-untyped-def]
    """Adding u to a prefix S takes the edges between u and S out of the cut and brings u's others in.

    `rank` is `LAST` at every vertex before, and the position in `order` after.
    """
    conductance, volume = np.ones(len(order)), np.empty(len(order))
    cut, inside = 0.0, 0.0
    for position in range(len(order)):
        u = order[position]
        inside += edges.degree[u]
        if inside > most_volume:
            return conductance[:position], volume[:position]
        rank[u] = position
        within = 0.0
        for edge in range(np.uintp(edges.first[u]), np.uintp(edges.last[u])):
            other = rank[np.uintp(edges.neighbours[edge])]
            # twice for an edge to the prefix, once for a self-loop
            within += (np.int64(other < position) + np.int64(other <= position)) * edges.weights[edge]
        cut += edges.degree[u] - within
        smaller = min(inside, total - inside)
        if smaller > ROUNDING * total:
            conductance[position] = max(cut, 0.0) / smaller
        volume[position] = inside
    return conductance, volume


@numba.njit(cache=True, nogil=True)
def set_conductance(edges, total, members, rank):  # type: ignore[no-untyped-def]
    """Conductance and volume of one set of vertices; `rank` is scratch, `LAST` before and after."""
    for u in members:
        rank[u] = 0
    cut, inside = 0.0, 0.0
    for u in members:
        inside += edges.degree[u]
        for edge in range(edges.first[u], edges.last[u]):
            if rank[edges.neighbours[edge]] != 0:
                cut += edges.weights[edge]
    for u in members:
        rank[u] = LAST
    smaller = min(inside, total - inside)
    return (cut / smaller if smaller > ROUNDING * total else 1.0), inside


@numba.njit(cache=True, nogil=True)
def innermost(edges, order, size, vertices):  # type: ignore[no-untyped-def]
    """Of the first `size` of `order`, the one with the largest share of its weight inside; the first of equals."""
    rank = np.full(vertices, False)
    for u in order[:size]:
        rank[u] = True
    best, best_share = order[0], -1.0
    for u in order[:size]:
        inside = 0.0
        for edge in range(edges.first[u], edges.last[u]):
            if rank[edges.neighbours[edge]]:
                inside += edges.weights[edge]
        if inside > best_share * edges.degree[u]:
            best, best_share = u, inside / edges.degree[u]
    return best
