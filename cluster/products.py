"""The nearest of many points to many queries, from blocks of matrix products.

|x - q|² less |q|², which is the same for every point, is |x|² - 2 q·x: a product and a sum. Each query collects what
lies below its limit; when its room is full, the least `count` stay and the largest of them is the new limit. Most
points are ruled out 64 at a time.
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
#: Room of a query, in times what it keeps.
ROOM = 3


class Nearest:
    """The `count` least keys of every query so far, and the points they belong to."""

    def __init__(self, queries: Array, count: int) -> None:
        room = ROOM * count
        self._count = count
        self._limits = np.full(len(queries), np.inf, np.float32)
        self._filled = np.zeros(len(queries), np.int64)
        self._keys = np.empty((len(queries), room), np.float32)
        self._points = np.empty((len(queries), room), np.int64)
        self._doubled = queries * np.float32(-2)
        self._products = torch.empty(TILE_QUERIES * TILE_POINTS)

    def least(self) -> tuple[Array, npt.NDArray[np.int64]]:
        """Keys and points (Q, count), unsorted; infinity and -1 where there were fewer. Limits are tightened by it."""
        settle(self._count, self._limits, self._filled, self._keys, self._points)
        return self._keys[:, : self._count].copy(), self._points[:, : self._count].copy()

    @property
    def limits(self) -> Array:
        """The largest of the `count` least keys, or more (Q)."""
        return self._limits

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
                self._offer(products.numpy(), norms[tile], first + left, some)

    def _offer(self, products: Array, norms: Array, first: int, some: npt.NDArray[np.int64]) -> None:
        state = (self._limits, self._filled, self._keys, self._points)
        offer(products, norms, first, some, self._count, *state)


@numba.njit(cache=True, nogil=True)
def offer(products, norms, first, asking, count, limits, filled, keys, points):  # type: ignore[no-untyped-def]
    """Collect for the queries `asking` what lies below their limits."""
    width = np.uintp(products.shape[1])
    room = keys.shape[1]
    for row in range(len(asking)):
        query = asking[row]
        line, limit, free = products[row], limits[query], filled[query]
        start = np.uintp(0)
        while start < width:
            stop = min(start + np.uintp(RUN), width)
            found = np.uint32(0)  # or-ed without branches, which compiles to wide steps
            if stop - start == np.uintp(RUN):
                for step in range(RUN):
                    place = start + np.uintp(step)
                    found |= np.uint32(line[place] + norms[place] < limit)
            else:
                found = np.uint32(1)
            if found:
                for column in range(start, stop):
                    key = line[column] + norms[column]
                    if key < limit:
                        keys[query, free], points[query, free] = key, first + np.int64(column)
                        free += 1
                        if free == room:
                            select(keys[query], points[query], count, free)
                            free = count
                            limit = keys[query, count - 1]
            start = stop
        limits[query], filled[query] = limit, free


@numba.njit(cache=True, nogil=True)
def select(keys, points, count, filled):  # type: ignore[no-untyped-def]
    """Bring the least `count` keys to the front, the largest of them last (Hoare's method)."""
    wanted, left, right = count - 1, 0, filled - 1
    while left < right:
        pivot = keys[(left + right) // 2]
        low, high = left, right
        while low <= high:
            while keys[low] < pivot:
                low += 1
            while keys[high] > pivot:
                high -= 1
            if low <= high:
                keys[low], keys[high] = keys[high], keys[low]
                points[low], points[high] = points[high], points[low]
                low += 1
                high -= 1
        if high < wanted:
            left = low
        if wanted < low:
            right = high


@numba.njit(cache=True, nogil=True)
def settle(count, limits, filled, keys, points):  # type: ignore[no-untyped-def]
    """Keep the least `count` of every query; what is missing is infinitely far."""
    for query in range(len(filled)):
        for place in range(filled[query], count):
            keys[query, place], points[query, place] = np.inf, -1
        if filled[query] > count:
            select(keys[query], points[query], count, filled[query])
            filled[query] = count
        if filled[query] == count:
            limits[query] = keys[query, :count].max()
