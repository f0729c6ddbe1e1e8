"""How far two clusterings of the same tokens agree. Labels in, numbers out; -1 is no cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.metrics import adjusted_rand_score


@dataclass(frozen=True)
class Agreement:
    """Of two labellings of the same rows, -1 for none.

    Args:
        both: Share of rows that are clustered in both.
        rand: Adjusted Rand index over those rows; None if there are none.
        jaccard: Mean over clusters of the Jaccard index with the best match among the other's clusters, over all rows;
            mean of both directions.
        chance: The same Jaccard index with one labelling's rows permuted.
    """

    both: float
    rand: float | None
    jaccard: float
    chance: float


def agreement(one: np.ndarray, two: np.ndarray, seed: int = 0) -> Agreement:
    inside = (one >= 0) & (two >= 0)
    rand = float(adjusted_rand_score(one[inside], two[inside])) if inside.any() else None
    shuffled = np.random.default_rng(seed).permutation(two)
    return Agreement(float(inside.mean()), rand, _both_ways(one, two), _both_ways(one, shuffled))


def _both_ways(one: np.ndarray, two: np.ndarray) -> float:
    matches = [best_matches(a, b) for a, b in ((one, two), (two, one))]
    return float(np.mean([match.mean() if len(match) else 0.0 for match in matches]))


def best_matches(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Jaccard index of every cluster of `one` with its best match in `two`; 0 where `two` has no cluster."""
    rows, columns = (int(labels.max(initial=-1)) + 1 for labels in (one, two))
    if rows == 0 or columns == 0:
        return np.zeros(rows)
    inside = (one >= 0) & (two >= 0)
    counted = np.ones(int(inside.sum()))
    shared = sparse.coo_array((counted, (one[inside], two[inside])), shape=(rows, columns)).tocsr()
    sizes = [np.bincount(labels[labels >= 0], minlength=count) for labels, count in ((one, rows), (two, columns))]
    pairs = shared.tocoo()
    index = pairs.data / (sizes[0][pairs.row] + sizes[1][pairs.col] - pairs.data)
    found = np.zeros(rows)
    np.maximum.at(found, pairs.row, index)
    return found
