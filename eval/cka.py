"""Linear centred kernel alignment, streaming, in feature space.

For centred X (N, D) and Y (N, E),

    CKA = ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖)        (Frobenius norms),

which is HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) for the kernels K = XXᵀ, L = YYᵀ without any N x N matrix. With few
rows per feature it is biased upwards (two unrelated random matrices with D ≥ N come near 1). The debiased form replaces
HSIC by its unbiased estimate (Song et al. 2012). Since rows of centred kernels sum to zero, with k, l their diagonals,

    HSIC₁ = { ‖XᵀY‖² - Σ kᵢ lᵢ + Σk Σl / ((N-1)(N-2)) - 2 Σ kᵢ lᵢ / (N-2) } / (N (N-3)),

so that the sums Σ kᵢ lᵢ are all it needs in addition. They are kept about the running mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aux.moments import row_blocks
from eval.bootstrap import Interval, jackknife_interval
from eval.config import LeakageConfig

PAIRS = ((0, 1), (0, 0), (1, 1))


@dataclass(frozen=True)
class CKA:
    """Linear CKA, and its debiased form, whose expectation is near 0 for unrelated data (it may be negative)."""

    value: float
    debiased: float


class LinearCKA:
    """Sums over rows z = (x, y), about their mean, from which linear CKA follows.

    `scatter` = Σ zzᵀ; `lengths` (2, 2) = Σ (|x|², |y|²)ᵀ (|x|², |y|²); `skew` (2, D+E) = Σ (|x|², |y|²)ᵀ z.
    """

    def __init__(self, x_width: int, y_width: int) -> None:
        self.widths = (x_width, y_width)
        self.count = 0
        self.mean = np.zeros(x_width + y_width)
        self.scatter = np.zeros((x_width + y_width, x_width + y_width))
        self.lengths = np.zeros((2, 2))
        self.skew = np.zeros((2, x_width + y_width))

    def update(self, X: np.ndarray, Y: np.ndarray) -> LinearCKA:
        """Add one block of rows of X (N, D) and Y (N, E)."""
        assert (X.shape, Y.shape) == tuple((len(X), width) for width in self.widths), (X.shape, Y.shape, self.widths)
        if len(X) == 0:
            return self
        part = LinearCKA(*self.widths)
        rows = np.concatenate([X, Y], axis=1, dtype=np.float64)
        part.count, part.mean = len(rows), rows.mean(axis=0)
        rows -= part.mean
        squared = np.stack([np.square(rows[:, side]).sum(axis=1) for side in part._sides()])
        part.scatter = rows.T @ rows
        part.lengths, part.skew = squared @ squared.T, squared @ rows
        return self.merge(part)

    def merge(self, other: LinearCKA) -> LinearCKA:
        """Add everything that `other` has seen."""
        return self._combine(other, 1)

    def without(self, other: LinearCKA) -> LinearCKA:
        """A copy that has not seen what `other` has seen, which must be a part of what this one has."""
        copy = LinearCKA(*self.widths)
        return copy.merge(self)._combine(other, -1)

    def result(self) -> CKA:
        """CKA of all rows seen; 0 when either side does not vary."""
        x, y = self._sides()
        cross, own_x, own_y = (float(np.square(self.scatter[a, b]).sum()) for a, b in ((x, y), (x, x), (y, y)))
        unbiased = [self._hsic(norm, *pair) for norm, pair in zip((cross, own_x, own_y), PAIRS, strict=True)]
        return CKA(_ratio(cross, own_x, own_y), _ratio(*unbiased))

    def _sides(self) -> tuple[slice, slice]:
        return slice(0, self.widths[0]), slice(self.widths[0], sum(self.widths))

    def _hsic(self, squared_norm: float, a: int, b: int) -> float:
        """Unbiased HSIC of sides a and b."""
        n, shared = self.count, float(self.lengths[a, b])
        traces = [float(np.trace(self.scatter[side, side])) for side in self._sides()]
        if n < 4:
            return 0.0
        inner = squared_norm - shared + traces[a] * traces[b] / ((n - 1) * (n - 2)) - 2 * shared / (n - 2)
        return inner / (n * (n - 3))

    def _combine(self, other: LinearCKA, sign: int) -> LinearCKA:
        """Add (or, with sign -1, take away) the rows of `other`."""
        assert self.widths == other.widths, (self.widths, other.widths)
        total = self.count + sign * other.count
        assert total > 0 or other.count == 0, "nothing would be left"
        if other.count:
            mean = (self.count * self.mean + sign * other.count * other.mean) / total
            ours, theirs = self._about(mean), other._about(mean)
            self.count, self.mean = total, mean
            self.scatter, self.lengths, self.skew = (a + sign * b for a, b in zip(ours, theirs, strict=True))
        return self

    def _about(self, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The sums about another centre: z becomes z + δ, |x|² becomes |x|² + 2 x·δₓ + |δₓ|²."""
        n, shift = self.count, self.mean - centre
        shifts = np.zeros_like(self.skew)
        for row, side in enumerate(self._sides()):
            shifts[row, side] = shift[side]
        traces = np.array([np.trace(self.scatter[side, side]) for side in self._sides()])
        squares = np.square(shifts).sum(axis=1)
        spread = shifts @ self.scatter
        mixed = 2 * self.skew @ shifts.T + np.outer(traces, squares)
        lengths = self.lengths + mixed + mixed.T + 4 * spread @ shifts.T + n * np.outer(squares, squares)
        skew = self.skew + 2 * spread + np.outer(traces + n * squares, shift)
        return self.scatter + n * np.outer(shift, shift), lengths, skew


def _ratio(cross: float, own_x: float, own_y: float) -> float:
    return cross / (own_x * own_y) ** 0.5 if own_x > 0 and own_y > 0 else 0.0


def linear_cka(X: np.ndarray, Y: np.ndarray) -> float:
    """Linear CKA of two descriptions (N, D) and (N, E) of the same N rows."""
    sums = LinearCKA(X.shape[1], Y.shape[1])
    for x, y in zip(row_blocks(X), row_blocks(Y), strict=True):
        sums.update(x, y)
    return sums.result().value


@dataclass(frozen=True)
class CKAEstimate:
    """Linear CKA and its debiased form with jackknife intervals over groups of documents."""

    cka: Interval
    debiased: Interval


class GroupedCKA:
    """One `LinearCKA` per group of documents, so that each group can be left out in turn."""

    def __init__(self, x_width: int, y_width: int, groups: int) -> None:
        self.parts = [LinearCKA(x_width, y_width) for _ in range(groups)]

    def update(self, X: np.ndarray, Y: np.ndarray, groups: np.ndarray) -> GroupedCKA:
        """Add one block of rows, with the group of every row (`eval.bootstrap.document_groups`)."""
        assert len(X) == len(Y) == len(groups), (X.shape, Y.shape, groups.shape)
        for group in np.unique(groups):
            self.parts[group].update(X[groups == group], Y[groups == group])
        return self

    def merge(self, other: GroupedCKA) -> GroupedCKA:
        """Add everything that `other` has seen."""
        assert len(self.parts) == len(other.parts), (len(self.parts), len(other.parts))
        for ours, theirs in zip(self.parts, other.parts, strict=True):
            ours.merge(theirs)
        return self

    def result(self, *, level: float = LeakageConfig.level) -> CKAEstimate:
        """CKA of all rows, with intervals from leaving out each group."""
        whole = _merged(self.parts)
        left_out = [whole.without(part).result() for part in self.parts]
        full = whole.result()
        return CKAEstimate(
            jackknife_interval(full.value, [cka.value for cka in left_out], level=level),
            jackknife_interval(full.debiased, [cka.debiased for cka in left_out], level=level),
        )


def _merged(parts: Sequence[LinearCKA]) -> LinearCKA:
    whole = LinearCKA(*parts[0].widths)
    for part in parts:
        whole.merge(part)
    return whole
