"""Linear centred kernel alignment, streaming, in feature space.

For centred X (N, D) and Y (N, E),

    CKA = ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖)        (Frobenius norms),

which is HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) for the kernels K = XXᵀ, L = YYᵀ without any N x N matrix. With few
rows per feature it is biased upwards (two unrelated random matrices with D ≥ N come near 1). The debiased form replaces
HSIC by its unbiased estimate (Song et al. 2012). Since rows of centred kernels sum to zero, with k, l their diagonals,

    HSIC₁ = { ‖XᵀY‖² - Σ kᵢ lᵢ + Σk Σl / ((N-1)(N-2)) - 2 Σ kᵢ lᵢ / (N-2) } / (N (N-3)),

so that the sums Σ kᵢ lᵢ are all it needs in addition. They are kept about the running mean.

Several descriptions Y may be laid beside one X at once: ‖XᵀX‖, the dear part, is then computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Rows that are centred and multiplied at once: what a processor's caches hold.
ROWS = 2048


@dataclass(frozen=True)
class CKA:
    """Linear CKA, and its debiased form, whose expectation is near 0 for unrelated data (it may be negative)."""

    value: float
    debiased: float


class LinearCKA:
    """Sums over rows z = (x, y, ...) of two or more descriptions, about their mean, from which linear CKA follows.

    `scatter` = Σ zzᵀ; `lengths` (S, S) = Σ qᵀq and `skew` (S, D+E+...) = Σ qᵀz with q = (|x|², |y|², ...).
    Single-precision rows are multiplied in single precision, a few thousand at a time; all sums are float64.
    """

    def __init__(self, *widths: int) -> None:
        self.widths = widths
        ends = np.cumsum(widths)
        self.sides = [slice(int(end) - width, int(end)) for end, width in zip(ends, widths, strict=True)]
        total = int(ends[-1])
        self.count = 0
        self.mean = np.zeros(total)
        self.scatter = np.zeros((total, total))
        self.lengths = np.zeros((len(widths), len(widths)))
        self.skew = np.zeros((len(widths), total))

    def update(self, *sides: np.ndarray, rows: np.ndarray | None = None) -> LinearCKA:
        """Add rows of X (N, D), Y (N, E), ...: all of them, or those whose numbers are given."""
        expected = tuple((len(sides[0]), width) for width in self.widths)
        assert tuple(side.shape for side in sides) == expected, ([side.shape for side in sides], self.widths)
        count = len(sides[0]) if rows is None else len(rows)
        if count == 0:
            return self
        part = LinearCKA(*self.widths)
        origin = np.concatenate([_block(side, 0, rows).mean(axis=0, dtype=np.float64) for side in sides])
        for start in range(0, count, ROWS):
            part._add([_block(side, start, rows) for side in sides], origin)
        total, shift = part.mean, part.mean / part.count
        part.lengths, part.skew = part._about(shift, total)
        part.scatter -= np.outer(total, shift)
        part.mean = origin + shift
        return self.merge(part)

    def merge(self, other: LinearCKA) -> LinearCKA:
        """Add everything that `other` has seen."""
        return self._combine(other, 1)

    def without(self, other: LinearCKA) -> LinearCKA:
        """A copy that has not seen what `other` has seen, which must be a part of what this one has."""
        return LinearCKA(*self.widths).merge(self)._combine(other, -1)

    def result(self, one: int = 0, other: int = 1) -> CKA:
        """CKA of two of the descriptions over all rows seen; 0 when either does not vary."""
        pairs = ((one, other), (one, one), (other, other))
        norms = [float(np.square(self.scatter[self.sides[a], self.sides[b]]).sum()) for a, b in pairs]
        unbiased = [self._hsic(norm, *pair) for norm, pair in zip(norms, pairs, strict=True)]
        return CKA(_ratio(*norms), _ratio(*unbiased))

    def _hsic(self, squared_norm: float, a: int, b: int) -> float:
        """Unbiased HSIC of sides a and b."""
        n, shared = self.count, float(self.lengths[a, b])
        trace_a, trace_b = (float(np.trace(self.scatter[side, side])) for side in (self.sides[a], self.sides[b]))
        if n < 4:
            return 0.0
        inner = squared_norm - shared + trace_a * trace_b / ((n - 1) * (n - 2)) - 2 * shared / (n - 2)
        return inner / (n * (n - 3))

    def _add(self, sides: Sequence[np.ndarray], origin: np.ndarray) -> None:
        """Sums about `origin`, with the sum of the rows themselves in `mean`, until all are in."""
        rows = np.concatenate(sides, axis=1, dtype=np.result_type(np.float32, *sides))
        rows -= origin.astype(rows.dtype)
        squared = np.stack([np.einsum("ij,ij->i", rows[:, side], rows[:, side]) for side in self.sides])
        self.count += len(rows)
        self.mean += rows.sum(axis=0, dtype=np.float64)
        self.scatter += rows.T @ rows
        self.lengths += squared.astype(np.float64) @ squared.T
        self.skew += squared @ rows

    def _combine(self, other: LinearCKA, sign: int) -> LinearCKA:
        """Add (or, with sign -1, take away) the rows of `other`."""
        assert self.widths == other.widths, (self.widths, other.widths)
        total = self.count + sign * other.count
        assert total > 0 or other.count == 0, "nothing would be left"
        if other.count == 0:
            return self
        mean = (self.count * self.mean + sign * other.count * other.mean) / total
        ours, theirs = mean - self.mean, mean - other.mean
        moved, added = self._about(ours), other._about(theirs)
        self.lengths, self.skew = (a + sign * b for a, b in zip(moved, added, strict=True))
        shifts, weights = np.stack([ours, theirs]), np.array([[self.count], [sign * other.count]])
        self.scatter += shifts.T @ (weights * shifts)
        if sign > 0:
            self.scatter += other.scatter
        else:
            self.scatter -= other.scatter
        self.count, self.mean = total, mean
        return self

    def _about(self, shift: np.ndarray, total: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`lengths` and `skew` about a centre that lies `shift` further: z becomes z - δ, |x|² |x|² - 2 x·δₓ + |δₓ|².

        `total` is Σ z about the present centre, zero about the mean.
        """
        n = self.count
        sums = np.zeros_like(shift) if total is None else total
        shifts = np.zeros_like(self.skew)
        for row, side in enumerate(self.sides):
            shifts[row, side] = shift[side]
        traces = np.array([np.trace(self.scatter[side, side]) for side in self.sides])
        squares, along, spread = np.square(shifts).sum(axis=1), shifts @ sums, shifts @ self.scatter
        mixed = np.outer(traces - 2 * along, squares) - 2 * self.skew @ shifts.T
        lengths = self.lengths + mixed + mixed.T + 4 * spread @ shifts.T + n * np.outer(squares, squares)
        skew = self.skew - 2 * spread + np.outer(squares, sums) + np.outer(2 * along - traces - n * squares, shift)
        return lengths, skew


def _block(side: np.ndarray, start: int, rows: np.ndarray | None) -> np.ndarray:
    return side[start : start + ROWS] if rows is None else side.take(rows[start : start + ROWS], axis=0)


def _ratio(cross: float, own_x: float, own_y: float) -> float:
    return cross / (own_x * own_y) ** 0.5 if own_x > 0 and own_y > 0 else 0.0


def linear_cka(X: np.ndarray, Y: np.ndarray) -> float:
    """Linear CKA of two descriptions (N, D) and (N, E) of the same N rows."""
    return LinearCKA(X.shape[1], Y.shape[1]).update(X, Y).result().value
