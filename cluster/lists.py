"""Points sorted into lists around centroids, and the nearest points to queries in the lists nearest to them.

With one list, or with every list opened, the search is exact up to the rounding of single precision. N points, Q
queries, L lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

from cluster.faiss_library import library
from cluster.products import Nearest

Array = npt.NDArray[Any]

#: Most points of a list, on average, that a centroid is learnt from, and rounds of k-means.
TAUGHT_BY = 40
ROUNDS = 6
#: The share of the lists to be opened that is opened before others are passed over.
FIRST = 1 / 16
#: Standard deviations of the cosine between two random directions, 1/sqrt(d), beyond which nothing is looked for.
FAR = 5
ARRAYS = ("centre", "points", "norms", "rows", "bounds", "centroids", "radii")
#: Rows of X that are handled at once, so that temporary copies stay small.
BLOCK = 1 << 16


@dataclass(frozen=True)
class Lists:
    """Read-only.

    Args:
        centre: Subtracted from points and queries: keys lose fewer digits near the origin (d).
        points: List after list (N, d), float32.
        norms: Their squared lengths (N).
        rows: Their row numbers in X (N).
        bounds: Where each list begins, and the end (L + 1).
        centroids: Of the lists (L, d).
        radii: Root mean square distance of a list's points from its centroid (L).
    """

    centre: Array
    points: Array
    norms: Array
    rows: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int64]
    centroids: Array
    radii: Array

    @classmethod
    def of(cls, X: Array, count: int, seed: int) -> Lists:
        """The rows of X by the nearest of `count` centroids."""
        centre = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        centroids = _taught(X, centre, count, seed) if count > 1 else np.zeros((1, X.shape[1]), np.float32)
        nearest = np.concatenate([nearest_lists(X[s] - centre, centroids, 1)[0][:, 0] for s in _blocks(len(X))])
        rows = np.argsort(nearest, kind="stable").astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(np.bincount(nearest, minlength=count))]).astype(np.int64)
        points = np.empty(X.shape, np.float32)
        squared = np.empty(len(X))
        for block in _blocks(len(X)):
            np.subtract(X[rows[block]], centre, out=points[block])
            squared[block] = np.square(points[block] - centroids[nearest[rows[block]]]).sum(axis=1)
        norms = np.einsum("ij,ij->i", points, points)
        within = np.bincount(nearest[rows], squared, count) / np.maximum(np.diff(bounds), 1)
        return cls(centre, points, norms, rows, bounds, centroids, np.sqrt(within).astype(np.float32))

    def __len__(self) -> int:
        return len(self.centroids)

    def candidates(self, vectors: Array, count: int, opened: int) -> npt.NDArray[np.int64]:
        """Row numbers of the `count` nearest points in the `opened` lists nearest to each vector, unsorted.

        Where those lists hold fewer, more are opened; -1 stands for what all lists together do not hold.
        """
        queries = vectors - self.centre
        nearest = Nearest(queries, count)
        order, distances = nearest_lists(queries, self.centroids, opened)
        first = max(1, int(FIRST * opened))
        self._open(nearest, order[:, :first])
        if opened < len(self):
            nearest.least()
            far = self._too_far(nearest.limits[:, None] + np.square(queries).sum(axis=1)[:, None], order, distances)
            order = np.where(far, -1, order)
        self._open(nearest, order[:, first:])
        keys, points = nearest.least()
        found = np.where(points < 0, -1, self.rows[points])
        short = np.flatnonzero(np.isinf(keys).any(axis=1))
        if len(short) and opened < len(self):
            found[short] = self.candidates(vectors[short], count, min(2 * opened, len(self)))
        return found

    def _open(self, nearest: Nearest, order: npt.NDArray[np.int64]) -> None:
        """Compare every query with the points of its lists, list by list."""
        starts, asking = by_list(order, len(self))
        for number in np.flatnonzero(np.diff(starts)):
            inside = slice(self.bounds[number], self.bounds[number + 1])
            some = asking[starts[number] : starts[number + 1]]
            nearest.compare(some, self.points[inside], self.norms[inside], inside.start)

    def _too_far(self, reach: Array, order: npt.NDArray[np.int64], distances: Array) -> npt.NDArray[np.bool_]:
        """Which lists hold no point within reach (squared) of the query, unless one lies in a rare direction.

        With D the distance of the centroid and s that of a point from it, the angle between both must have a cosine of
        (D² + s² - reach²) / 2Ds. A point at the list's radius is taken for all; in d dimensions cosines of random
        directions spread by 1/sqrt(d).
        """
        radius = self.radii[order]
        cosine = (distances + np.square(radius) - reach) / np.maximum(2 * np.sqrt(distances) * radius, 1e-30)
        far: npt.NDArray[np.bool_] = cosine * np.sqrt(self.points.shape[1]) > FAR
        return far

    @property
    def arrays(self) -> dict[str, Array]:
        """By name, to be written."""
        return {name: getattr(self, name) for name in ARRAYS}


def nearest_lists(queries: Array, centroids: Array, count: int) -> tuple[npt.NDArray[np.int64], Array]:
    """The `count` nearest centroids to each query, nearest first, and their squared distances (Q, count)."""
    norms = torch.from_numpy(np.einsum("ij,ij->i", centroids, centroids))
    keys = torch.addmm(norms, torch.from_numpy(queries), torch.from_numpy(centroids).T, alpha=-2)
    least, order = torch.topk(keys, count, largest=False)
    return order.numpy(), np.maximum(least.numpy() + np.square(queries).sum(axis=1)[:, None], 0)


@numba.njit(cache=True, nogil=True)
def by_list(opened, lists):  # type: ignore[no-untyped-def]
    """Queries by the list they open: `asking[starts[l]:starts[l + 1]]` open list l, in ascending order; -1 is none."""
    starts = np.zeros(lists + 1, np.int64)
    for query in range(opened.shape[0]):
        for place in range(opened.shape[1]):
            if opened[query, place] >= 0:
                starts[opened[query, place] + 1] += 1
    starts = np.cumsum(starts)
    filled = starts.copy()
    asking = np.empty(starts[-1], np.int64)
    for query in range(opened.shape[0]):
        for place in range(opened.shape[1]):
            number = opened[query, place]
            if number >= 0:
                asking[filled[number]] = query
                filled[number] += 1
    return starts, asking


def _taught(X: Array, centre: Array, count: int, seed: int) -> Array:
    """Centroids by k-means on a random share of the rows of X."""
    chosen = np.random.default_rng(seed).permutation(len(X))[: TAUGHT_BY * count]
    means = library().Kmeans(X.shape[1], count, niter=ROUNDS, seed=seed, min_points_per_centroid=1)
    means.train(X[np.sort(chosen)] - centre)
    return np.array(means.centroids)


def _blocks(rows: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, rows, BLOCK)]
