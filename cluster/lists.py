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

#: Fewest points of a list on average, and most of them that a centroid is learnt from.
LIST_POINTS = 40
TAUGHT_BY = 64
ROUNDS = 10
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
    """

    centre: Array
    points: Array
    norms: Array
    rows: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int64]
    centroids: Array

    @classmethod
    def of(cls, X: Array, count: int, seed: int) -> Lists:
        """The rows of X by the nearest of `count` centroids."""
        centre = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        centroids = _taught(X, centre, count, seed) if count > 1 else np.zeros((1, X.shape[1]), np.float32)
        nearest = np.concatenate([lists_by_distance(X[s] - centre, centroids, 1)[:, 0] for s in _blocks(len(X))])
        rows = np.argsort(nearest, kind="stable").astype(np.int64)
        bounds = np.concatenate([[0], np.cumsum(np.bincount(nearest, minlength=count))]).astype(np.int64)
        points = np.empty(X.shape, np.float32)
        for block in _blocks(len(X)):
            np.subtract(X[rows[block]], centre, out=points[block])
        return cls(centre, points, np.einsum("ij,ij->i", points, points), rows, bounds, centroids)

    def __len__(self) -> int:
        return len(self.centroids)

    def candidates(self, vectors: Array, count: int, opened: int) -> npt.NDArray[np.int64]:
        """Row numbers of the `count` nearest points in the `opened` lists nearest to each vector, unsorted.

        Where those lists hold fewer, more are opened; -1 stands for what all lists together do not hold.
        """
        queries = vectors - self.centre
        nearest = Nearest(queries, count)
        order = lists_by_distance(queries, self.centroids, opened)
        for part in (order[:, :1], order[:, 1:]):  # the nearest list first, so that the others have much to beat
            starts, asking = by_list(part, len(self))
            for number in np.flatnonzero(np.diff(starts)):
                inside = slice(self.bounds[number], self.bounds[number + 1])
                some = asking[starts[number] : starts[number + 1]]
                nearest.compare(some, self.points[inside], self.norms[inside], inside.start)
        found = np.where(nearest.points < 0, -1, self.rows[nearest.points])
        short = np.flatnonzero(np.isinf(nearest.keys[:, 0]))
        if len(short) and opened < len(self):
            found[short] = self.candidates(vectors[short], count, min(2 * opened, len(self)))
        return found

    @property
    def arrays(self) -> dict[str, Array]:
        """By name, to be written."""
        return {name: getattr(self, name) for name in ("centre", "points", "norms", "rows", "bounds", "centroids")}


def lists_by_distance(queries: Array, centroids: Array, count: int) -> npt.NDArray[np.int64]:
    """The `count` nearest centroids to each query, nearest first (Q, count)."""
    if len(centroids) == 1:
        return np.zeros((len(queries), 1), np.int64)
    norms = torch.from_numpy(np.einsum("ij,ij->i", centroids, centroids))
    keys = torch.addmm(norms, torch.from_numpy(queries), torch.from_numpy(centroids).T, alpha=-2)
    return torch.topk(keys, count, largest=False).indices.numpy()


@numba.njit(cache=True, nogil=True)
def by_list(opened, lists):  # type: ignore[no-untyped-def]
    """Queries by the list they open: `asking[starts[l]:starts[l + 1]]` open list l, in ascending order."""
    starts = np.zeros(lists + 1, np.int64)
    for query in range(opened.shape[0]):
        for place in range(opened.shape[1]):
            starts[opened[query, place] + 1] += 1
    starts = np.cumsum(starts)
    filled = starts.copy()
    asking = np.empty(opened.size, np.int64)
    for query in range(opened.shape[0]):
        for place in range(opened.shape[1]):
            number = opened[query, place]
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
