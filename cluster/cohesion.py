"""Whether a set is one: the least conductance of a cut that splits it, found inside it.

The set's own subgraph is swept by the second eigenvector of its walk (Cheeger's inequality bounds how much better the
best split can be). Near 0 the set falls into two, and the outer conductance does not show it; a set whose inner split
is no easier than leaving it has more cohesion than conductance.
"""

import numba
import numpy as np

from cluster.sweep import by_density, sweep_prefixes
from cluster.walkgraph import WalkGraph
from cluster.walkstate import Edges, Vector, Vertices

MOST_PASSES = 200
#: A change of the eigenvector's direction per pass that no longer moves the cut.
STILL = 1e-4


def cohesions(graph: WalkGraph, labels: Vertices) -> Vector:
    """Cohesion of every cluster 0, 1, ... of `labels`."""
    inside = np.flatnonzero(labels >= 0).astype(np.int32)
    ordered = inside[np.argsort(labels[inside], kind="stable")]
    counts = np.bincount(labels[inside])
    number = np.full(len(graph), -1, np.int32)
    return np.array(
        [cohesion(graph, members, number) for members in np.split(ordered, np.cumsum(counts)[:-1]) if len(members)]
    )


def cohesion(graph: WalkGraph, members: Vertices, number: Vertices) -> float:
    """Least conductance of a split of these members, 1 for a single one. `number` is scratch, -1 before and after."""
    own = Edges(*subgraph(graph.edges, members, number))
    start = np.random.default_rng(0).standard_normal(len(members))
    vector = second_eigenvector(own, start)
    order = by_density(vector, np.ones(len(members)), np.arange(len(members), dtype=np.int32)).astype(np.int32)
    swept = sweep_prefixes(own, float(own.degree.sum()), order, len(members), np.inf)
    return float(swept.conductance.min())


@numba.njit(cache=True, nogil=True)
def subgraph(edges, members, number):  # type: ignore[no-untyped-def]
    """The edges between members, as the fields of `Edges`."""
    most = 0
    for position, u in enumerate(members):
        number[u] = position
        most += edges.last[u] - edges.first[u]
    first, last = np.empty(len(members), np.int64), np.empty(len(members), np.int64)
    neighbours, weights = np.empty(most, np.int32), np.empty(most, edges.weights.dtype)
    degree, filled = np.zeros(len(members)), 0
    for position, u in enumerate(members):
        first[position] = filled
        for edge in range(edges.first[u], edges.last[u]):
            other = number[edges.neighbours[edge]]
            if other >= 0:
                neighbours[filled], weights[filled] = other, edges.weights[edge]
                degree[position] += edges.weights[edge]
                filled += 1
        last[position] = filled
    for u in members:
        number[u] = -1
    return first, last, neighbours[:filled], weights[:filled], degree


@numba.njit(cache=True, nogil=True)
def second_eigenvector(edges, start):  # type: ignore[no-untyped-def]
    """Power iteration of the lazy walk's transpose (I + D^-1 A) / 2, held orthogonal to constants in the D-product."""
    vector, image = start.copy(), np.empty(len(start))
    volume = edges.degree.sum()
    for _ in range(MOST_PASSES):
        mean = (vector * edges.degree).sum() / volume if volume > 0.0 else 0.0
        length = np.sqrt((edges.degree * (vector - mean) ** 2).sum())
        if length == 0.0:
            break
        vector = (vector - mean) / length
        for u in range(len(vector)):
            inflow = 0.0
            for edge in range(edges.first[u], edges.last[u]):
                inflow += edges.weights[edge] * vector[edges.neighbours[edge]]
            image[u] = 0.5 * vector[u] + (0.5 * inflow / edges.degree[u] if edges.degree[u] > 0.0 else 0.5 * vector[u])
        overlap = (edges.degree * image * vector).sum()
        change = (edges.degree * (image - overlap * vector) ** 2).sum()
        vector[:] = image
        if change < STILL**2:
            break
    return vector
