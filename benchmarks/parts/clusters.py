"""Clusters of one part of χ in each half of the draws: are they found again, and do other parts have them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.parts.bases import EXPLAINED, fit
from cluster.search import find_clusters
from cluster.whitening import whiten
from eval.agreement import best_matches


@dataclass(frozen=True)
class Agreement:
    """Of two labellings of the same rows, -1 for none.

    Args:
        both: Share of rows that are clustered in both.
        rand: Adjusted Rand index over those rows; None if there are none.
        jaccard: Mean over clusters of the Jaccard index with the best match among the other's clusters, over all rows;
            mean of both directions.
    """

    both: float
    rand: float | None
    jaccard: float


def labels_of(halves: np.ndarray, half: int, components: Sequence[str], threads: int) -> np.ndarray:
    """Clusters of one half's whitened coordinates, in the basis of that half."""
    values = halves[:, half]
    coordinates = fit(values, components, EXPLAINED).coordinates(values).astype(np.float32)
    return find_clusters(whiten(coordinates).transform(coordinates), threads=threads).labels


def agreement(one: np.ndarray, two: np.ndarray) -> Agreement:
    from sklearn.metrics import adjusted_rand_score

    inside = (one >= 0) & (two >= 0)
    rand = float(adjusted_rand_score(one[inside], two[inside])) if inside.any() else None
    matches = [best_matches(a, b) for a, b in ((one, two), (two, one))]
    return Agreement(float(inside.mean()), rand, float(np.mean([m.mean() if len(m) else 0.0 for m in matches])))


def mean_agreement(found: Sequence[Agreement]) -> Agreement:
    rands = [one.rand for one in found if one.rand is not None]
    return Agreement(
        float(np.mean([one.both for one in found])),
        float(np.mean(rands)) if rands else None,
        float(np.mean([one.jaccard for one in found])),
    )


def between(one: Sequence[np.ndarray], two: Sequence[np.ndarray]) -> tuple[Agreement, Agreement]:
    """Of two parts, each labelled in both halves: across halves, and within one half."""
    across, within = (mean_agreement([agreement(one[h], two[h ^ other]) for h in range(2)]) for other in (1, 0))
    return across, within


def chance(found: Sequence[Sequence[np.ndarray]], seed: int) -> Agreement:
    """The same with rows permuted; of all parts the best."""
    rng = np.random.default_rng(seed)
    each = [agreement(first, rng.permutation(second)) for first, second in found]
    return max(each, key=lambda one: one.jaccard)
