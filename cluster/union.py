"""Directed edges made undirected: the union of every point's edges to its neighbours and of theirs to it.

No sparse matrix is formed or turned round: beside the result only the neighbours themselves are held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: Makes an array of a name, length and type: in memory, or on disk where it is large.
Allocate = Callable[[str, int, type[np.generic]], Array]


def in_memory(name: str, length: int, dtype: type[np.generic]) -> Array:
    return np.empty(length, dtype)


def union(neighbours: Array, weights: Array, allocate: Allocate = in_memory) -> tuple[Array, Array, Array]:
    """Rows of a symmetric matrix, `indptr`, `indices` (ascending in every row) and `weights`, from each point's k
    neighbours (N, k) and the weights of those edges; where two points name each other the larger weight counts."""
    both = named_by(neighbours)
    indptr = allocate("indptr", len(neighbours) + 1, np.int64)
    indptr[0] = 0
    np.cumsum(edge_counts(neighbours, both), out=indptr[1:])
    indices = allocate("indices", int(indptr[-1]), np.int32)
    values = allocate("weights", int(indptr[-1]), np.float32)
    fill_rows(neighbours, weights, both, np.array(indptr[:-1]), indices, values)
    sort_rows(indptr, indices, values)
    return indptr, indices, values


@numba.njit(cache=True, nogil=True)
def named_by(neighbours):  # type: ignore[no-untyped-def]
    """Where among its neighbour's neighbours each point is; -1 where it is not one."""
    points, k = neighbours.shape
    place = np.empty((points, k), np.int16)
    for point in range(points):
        for edge in range(k):
            other = neighbours[point, edge]
            place[point, edge] = -1
            for back in range(k):
                if neighbours[other, back] == point:
                    place[point, edge] = back
                    break
    return place


@numba.njit(cache=True, nogil=True)
def edge_counts(neighbours, both):  # type: ignore[no-untyped-def]
    points, k = neighbours.shape
    counts = np.full(points, k, np.int64)
    for point in range(points):
        for edge in range(k):
            if both[point, edge] < 0:
                counts[neighbours[point, edge]] += 1
    return counts


@numba.njit(cache=True, nogil=True)
def fill_rows(neighbours, weights, both, filled, indices, values):  # type: ignore[no-untyped-def]
    """Every point's own edges, and into other rows those that are not theirs already; `filled` are the rows' starts."""
    points, k = neighbours.shape
    for point in range(points):
        for edge in range(k):
            other, back, weight = neighbours[point, edge], both[point, edge], weights[point, edge]
            if back >= 0:
                weight = max(weight, weights[other, back])
            else:
                indices[filled[other]], values[filled[other]] = point, weight
                filled[other] += 1
            indices[filled[point]], values[filled[point]] = other, weight
            filled[point] += 1


@numba.njit(cache=True, nogil=True)
def sort_rows(indptr, indices, values):  # type: ignore[no-untyped-def]
    """Every row by Shell's method, in place: rows are short, but for a few that may be very long."""
    for row in range(len(indptr) - 1):
        first, last = indptr[row], indptr[row + 1]
        gap = 1
        while 3 * gap < last - first:
            gap = 3 * gap + 1
        while gap > 0:
            for place in range(first + gap, last):
                index, value, free = indices[place], values[place], place
                while free >= first + gap and indices[free - gap] > index:
                    indices[free], values[free] = indices[free - gap], values[free - gap]
                    free -= gap
                indices[free], values[free] = index, value
            gap //= 3
