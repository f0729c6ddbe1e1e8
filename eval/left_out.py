"""Linear CKA of all rows, and without each group of documents in turn, for intervals by the jackknife.

Sums of a group are taken away from those of all rows as soon as they are there: two passes over the rows, and memory
for three sets of sums whatever the number of groups. Keeping every group's sums would save the second pass and take
8 (D + E + ...)² bytes a group: 110 MB at 20 groups of 832 dimensions, 2.8 GB at 4,192.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from eval.bootstrap import Interval, jackknife_interval
from eval.cka import LinearCKA
from eval.config import LeakageConfig


@dataclass(frozen=True)
class CKAEstimate:
    """Linear CKA and its debiased form with jackknife intervals over groups of documents."""

    cka: Interval
    debiased: Interval


def left_out(sides: Sequence[np.ndarray], groups: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """CKA and debiased CKA of pairs of descriptions (1 + G, pairs, 2): of all rows, then without each group.

    `groups` numbers the group of every row from 0 (`eval.bootstrap.document_groups`).
    """
    assert all(len(side) == len(groups) for side in sides), ([side.shape for side in sides], groups.shape)
    found = [[sums.result(*pair) for pair in pairs] for sums in _all_and_without_each(sides, groups)]
    return np.array([[(cka.value, cka.debiased) for cka in results] for results in found])


def _all_and_without_each(sides: Sequence[np.ndarray], groups: np.ndarray) -> Iterator[LinearCKA]:
    widths = [side.shape[1] for side in sides]
    whole = LinearCKA(*widths).update(*sides)
    yield whole
    for group in range(int(groups.max()) + 1):
        yield whole.without(LinearCKA(*widths).update(*sides, rows=np.flatnonzero(groups == group)))


def cka_estimate(
    X: np.ndarray, Y: np.ndarray, groups: np.ndarray, *, level: float = LeakageConfig.level
) -> CKAEstimate:
    """CKA of two descriptions (N, D) and (N, E) over all rows, with intervals from leaving out each group."""
    found = left_out([X, Y], groups, [(0, 1)])[:, 0]
    return CKAEstimate(*(jackknife_interval(form[0], form[1:], level=level) for form in found.T))
