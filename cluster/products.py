"""The nearest of many points to many queries, from blocks of matrix products.

|x - q|² less |q|², which is the same for every point, is |x|² - 2 q·x: a product and a sum. Each query keeps the least
keys that it has met in a heap, whose root is the one to beat; most points are ruled out 64 at a time.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any]

#: Queries and points of one product: its result stays in the processor's second cache.
TILE_QUERIES, TILE_POINTS = 256, 1024
#: Points that are ruled out together.
RUN = 64


class Nearest:
    """The `count` least keys of every query so far, unsorted, and the points they belong to (-1: none yet)."""

    def __init__(self, queries: Array, count: int) -> None:
        self.keys = np.full((len(queries), count), np.inf, np.float32)
        self.points = np.full((len(queries), count), -1, np.int64)
        self._doubled = queries * np.float32(-2)
        self._products = torch.empty(TILE_QUERIES * TILE_POINTS)

    def compare(self, asking: npt.NDArray[np.int64], points: Array, norms: Array, first: int) -> None:
        """Offer points, numbered from `first`, with their squared lengths, to some of the queries."""
        for start in range(0, len(asking), TILE_QUERIES):
            some = asking[start : start + TILE_QUERIES]
            queries = torch.from_numpy(self._doubled[some])
            for left in range(0, len(points), TILE_POINTS):
                tile = slice(left, left + TILE_POINTS)
                near = torch.from_numpy(points[tile])
                products = self._products[: len(some) * len(near)].view(len(some), len(near))
                torch.mm(queries, near.T, out=products)
                offer(products.numpy(), norms[tile], first + left, some, self.keys, self.points)


@numba.njit(cache=True, nogil=True)
def offer(products, norms, first, asking, keys, points):  # type: ignore[no-untyped-def]
    """Take into the heaps of the queries `asking` what lies below their roots."""
    width = np.uintp(products.shape[1])
    for row in range(len(asking)):
        own_keys, own_points = keys[asking[row]], points[asking[row]]
        line = products[row]
        start = np.uintp(0)
        while start < width:
            stop = min(start + np.uintp(RUN), width)
            if any_below(line, norms, start, stop, own_keys[0]):
                for place in range(start, stop):
                    key = line[place] + norms[place]
                    if key < own_keys[0]:
                        replace_root(own_keys, own_points, key, first + np.int64(place))
            start = stop


@numba.njit(cache=True, nogil=True)
def any_below(line, norms, start, stop, limit):  # type: ignore[no-untyped-def]
    """Whether a key of the run is below the limit; a bitwise or without branches is what compiles to wide steps."""
    found = np.uint32(0)
    if stop - start == np.uintp(RUN):
        for step in range(RUN):
            place = start + np.uintp(step)
            found |= np.uint32(line[place] + norms[place] < limit)
    else:
        for place in range(start, stop):
            found |= np.uint32(line[place] + norms[place] < limit)
    return found != 0


@numba.njit(cache=True, nogil=True)
def replace_root(keys, points, key, point):  # type: ignore[no-untyped-def]
    """Put a smaller key in place of the largest and restore the heap."""
    size = np.uintp(len(keys))
    place, child = np.uintp(0), np.uintp(1)
    while child < size:
        if child + np.uintp(1) < size and keys[child + np.uintp(1)] > keys[child]:
            child += np.uintp(1)
        if keys[child] <= key:
            break
        keys[place], points[place] = keys[child], points[child]
        place, child = child, np.uintp(2) * child + np.uintp(1)
    keys[place], points[place] = key, point
