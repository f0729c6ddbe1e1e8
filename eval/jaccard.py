"""Jaccard index of nearest neighbours: do two descriptions of the same rows agree on who is near whom?

Legend: N rows, Q queries, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cluster.neighbours import knn
from eval.config import LeakageConfig

BLOCK_ROWS = 2048


@dataclass(frozen=True)
class NeighbourOverlap:
    """The mean over rows, and every row's index (for intervals over documents, see `eval.bootstrap`)."""

    mean: float
    values: np.ndarray


class JaccardKNN:
    """Jaccard indices of neighbour lists that arrive in shards of queries.

    For neighbour sets A and B of one row, |A ∩ B| / |A ∪ B|; independent random sets of k among N give near k / (2N).
    """

    def __init__(self, k: int = LeakageConfig.k) -> None:
        self.k = k
        self.parts: list[np.ndarray] = []

    def update(self, first: np.ndarray, second: np.ndarray) -> JaccardKNN:
        """Add the neighbours (Q, k) of the same queries in two descriptions."""
        assert first.shape == second.shape == (len(first), self.k), (first.shape, second.shape, self.k)
        for start in range(0, len(first), BLOCK_ROWS):
            self.parts.append(jaccard_rows(first[start : start + BLOCK_ROWS], second[start : start + BLOCK_ROWS]))
        return self

    def merge(self, other: JaccardKNN) -> JaccardKNN:
        """Add the queries that `other` has seen, after those already here."""
        assert self.k == other.k, (self.k, other.k)
        self.parts.extend(other.parts)
        return self

    def result(self) -> NeighbourOverlap:
        """Mean and values, in the order in which the queries came."""
        assert self.parts, "no queries seen"
        values = np.concatenate(self.parts)
        return NeighbourOverlap(float(values.mean()), values)


def jaccard_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Jaccard index (Q,) of every pair of neighbour lists (Q, k), whose entries are distinct within a row."""
    shared = (first[:, :, None] == second[:, None, :]).sum(axis=(1, 2))
    return shared / (first.shape[1] + second.shape[1] - shared)


def jaccard_knn(X: np.ndarray, Y: np.ndarray, k: int = LeakageConfig.k) -> float:
    """Mean Jaccard index of the exact k nearest neighbours in two descriptions (N, D) and (N, E) of the same rows."""
    assert len(X) == len(Y), (X.shape, Y.shape)
    return JaccardKNN(k).update(*(knn(side, k, search="exact").neighbours for side in (X, Y))).result().mean


def permute_rows(neighbours: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Neighbours (N, k) of the description X[permutation], from those of X: the permuted control without a search."""
    assert neighbours.shape[0] == len(permutation), (neighbours.shape, permutation.shape)
    place = np.empty_like(permutation)
    place[permutation] = np.arange(len(permutation))
    return place[neighbours[permutation]]
