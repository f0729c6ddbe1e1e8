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
from scipy import sparse

from cluster.pagerank import Vector, Vertices, WalkGraph
from scale.errors import UserError

#: Volume, as a share of the graph's, that is no more than the rounding of sums.
ROUNDING = 1e-12


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
    rank = np.full(len(values), -1, np.int32)
    return sweep_walk(walk_graph, values, np.flatnonzero(values > 0).astype(np.int32), rank, np.inf)


def sweep_walk(graph: WalkGraph, p: Vector, support: Vertices, rank: Vertices, most_volume: float) -> Sweep:
    """Sweep the ascending `support`, up to the last prefix of volume at most `most_volume`.

    `rank` is scratch of N entries, -1 before and after.
    """
    order, conductance, volume = sweep(
        graph.indptr, graph.indices, graph.weights, graph.degree, graph.volume, p, support, rank, most_volume
    )
    return Sweep(order, conductance, volume)


@numba.njit(cache=True, nogil=True)
def sweep(indptr, indices, weights, degree, total, p, support, rank, most_volume):  # type: ignore[no-untyped-def]
    """Adding u to a prefix S takes the edges between u and S out of the cut and brings u's others in."""
    order = support[np.argsort(-p[support] / degree[support], kind="mergesort")]
    conductance, volume = np.ones(len(order)), np.empty(len(order))
    cut, inside, reached = 0.0, 0.0, 0
    for position in range(len(order)):
        u = order[position]
        inside += degree[u]
        if inside > most_volume:
            break
        rank[u] = position
        cut += degree[u]
        for edge in range(indptr[u], indptr[u + 1]):
            v = indices[edge]
            if v == u:
                cut -= weights[edge]
            elif rank[v] >= 0:
                cut -= 2.0 * weights[edge]
        smaller = min(inside, total - inside)
        if smaller > ROUNDING * total:
            conductance[position] = max(cut, 0.0) / smaller
        volume[position] = inside
        reached = position + 1
    for u in order[:reached]:
        rank[u] = -1
    return order[:reached], conductance[:reached], volume[:reached]


@numba.njit(cache=True, nogil=True)
def set_conductance(indptr, indices, weights, degree, total, members, rank):  # type: ignore[no-untyped-def]
    """Conductance and volume of one set of vertices; `rank` is scratch, -1 before and after."""
    for u in members:
        rank[u] = 0
    cut, inside = 0.0, 0.0
    for u in members:
        inside += degree[u]
        for edge in range(indptr[u], indptr[u + 1]):
            if rank[indices[edge]] < 0:
                cut += weights[edge]
    for u in members:
        rank[u] = -1
    smaller = min(inside, total - inside)
    return (cut / smaller if smaller > ROUNDING * total else 1.0), inside


@numba.njit(cache=True, nogil=True)
def innermost(indptr, indices, weights, degree, members, rank):  # type: ignore[no-untyped-def]
    """The member with the largest share of its weight inside the set, the first of equals; `rank` is scratch."""
    for u in members:
        rank[u] = 0
    best, best_share = members[0], -1.0
    for u in members:
        inside = 0.0
        for edge in range(indptr[u], indptr[u + 1]):
            if rank[indices[edge]] >= 0:
                inside += weights[edge]
        if inside > best_share * degree[u]:
            best, best_share = u, inside / degree[u]
    for u in members:
        rank[u] = -1
    return best
