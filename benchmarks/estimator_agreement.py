"""Do two estimators measure the same thing? Correlation and slope, corrected for the noise of both, with intervals.

Either estimator was repeated: x (R, contexts, tokens) with R independent sets of draws, y (S, contexts, tokens) with S.
Noise is independent between repetitions, so products of different repetitions are free of it, and over tokens

    A = mean of Cov(x_r, y_s)     B = mean over r ≠ r' of Cov(x_r, x_r')     C = mean over s ≠ s' of Cov(y_s, y_s')

estimate the covariance and the variances of the two signals without bias:

    slope of y on x = A / B       correlation = A / sqrt(BC)

Two things were drawn at random: contexts, and draws. An error of draws is common to all contexts of its repetition, and
contexts drawn again would know nothing of it. T = (A, B, C) is a mean of terms that belong to a context and to a few
repetitions each, and the variance of such a mean is estimated without bias by T Tᵀ less the mean product of two terms
that have neither context nor repetition in common (Hoeffding 1948). That is the sum of two shares:

    contexts   T Tᵀ less the mean product of terms of different contexts: the variance of their terms over their number
    draws      the mean product of terms of different contexts, less that of those with no repetition in common

The interval of a ratio is Fieller's, with Student's quantile at Satterthwaite's degrees of freedom. It has no end where
the denominator could be zero: then noise hides the signal, and nothing is decided.

Covariances are centred over tokens: what is the same for all tokens has no say here, nor in a column of z-scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

#: Fewest repetitions of either estimator: two pairs that have none in common.
FEWEST = 4
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its interval; NaN for a value that cannot be told, infinite for an end there is not."""

    value: float
    low: float
    high: float


UNKNOWN = Estimate(float("nan"), -float("inf"), float("inf"))


@dataclass(frozen=True)
class Agreement:
    """Of y with x; the reliabilities are those of the mean over all repetitions."""

    correlation: Estimate
    slope: Estimate
    reliability: float
    reference_reliability: float


@dataclass(frozen=True)
class Products:
    """Mean products over the tokens of each context, of repetitions with others: (contexts, R, S), (contexts, R, R),
    (contexts, S, S); the last two are zero where a repetition would meet itself.
    """

    across: np.ndarray
    found: np.ndarray
    reference: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Products:
        return cls(products(x, y), without_diagonal(products(x, x)), without_diagonal(products(y, y)))

    def terms(self) -> np.ndarray:
        """(A, B, C) of every context alone, (contexts, 3)."""
        return np.stack([self.across.mean(axis=(1, 2)), pair_mean(self.found), pair_mean(self.reference)], axis=1)

    @property
    def mean(self) -> Products:
        """Of all contexts together, as if they were one."""
        return Products(*(value.mean(axis=0, keepdims=True) for value in vars(self).values()))


def products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.einsum("rct,sct->crs", left, right) / left.shape[2]
    return found


def without_diagonal(pairs: np.ndarray) -> np.ndarray:
    return pairs * (1 - np.eye(pairs.shape[1]))


def pair_mean(pairs: np.ndarray) -> np.ndarray:
    count = pairs.shape[1]
    found: np.ndarray = pairs.sum(axis=(1, 2)) / (count * (count - 1))
    return found


def sharing_nothing(one: Products) -> np.ndarray:
    """Mean product, within each context, of two terms of (A, B, C) with no repetition in common, (contexts, 3, 3)."""
    found = one.terms()[:, :, None] * one.terms()[:, None, :]  # B and C have none in common as it is
    found[:, 0, 0] = disjoint_across(one.across)
    for index, (pairs, across) in enumerate(((one.found, one.across.mean(axis=2)), (one.reference, one.across.mean(1)))):
        found[:, index + 1, index + 1] = disjoint_pairs(pairs)
        found[:, 0, index + 1] = found[:, index + 1, 0] = disjoint_mixed(across, pairs)
    return found


def disjoint_across(across: np.ndarray) -> np.ndarray:
    """Mean of a_rs a_r's' over r ≠ r' and s ≠ s'."""
    _, rows, columns = across.shape
    total = across.sum(axis=(1, 2)) ** 2
    same_row, same_column = (across.sum(axis=2) ** 2).sum(axis=1), (across.sum(axis=1) ** 2).sum(axis=1)
    both = (across**2).sum(axis=(1, 2))
    found: np.ndarray = (total - same_row - same_column + both) / (rows * (rows - 1) * columns * (columns - 1))
    return found


def disjoint_pairs(pairs: np.ndarray) -> np.ndarray:
    """Mean of b_ij b_kl over i, j, k, l all different."""
    count = pairs.shape[1]
    total, one = pairs.sum(axis=(1, 2)) ** 2, (pairs.sum(axis=2) ** 2).sum(axis=1)
    found: np.ndarray = total - 4 * one + 2 * (pairs**2).sum(axis=(1, 2))
    return found / (count * (count - 1) * (count - 2) * (count - 3))


def disjoint_mixed(across: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Mean of a_i b_jk over i, j, k all different; ``across`` (contexts, repetitions)."""
    count = pairs.shape[1]
    others = pairs.sum(axis=(1, 2))[:, None] - 2 * pairs.sum(axis=2)
    found: np.ndarray = (across * others).sum(axis=1) / (count * (count - 1) * (count - 2))
    return found


def context_share(one: Products) -> np.ndarray:
    """Covariance matrix of (A, B, C), of contexts."""
    found: np.ndarray = np.cov(one.terms().T) / len(one.across)
    return found


def draw_share(one: Products) -> np.ndarray:
    """Covariance matrix of (A, B, C), of the errors that all contexts have in common.

    Both mean products are bilinear in the two contexts: what different contexts give is what all give, less what a
    context gives with itself.
    """

    def excess(part: Products) -> np.ndarray:
        terms = part.terms()
        found: np.ndarray = (terms[:, :, None] * terms[:, None, :] - sharing_nothing(part)).mean(axis=0)
        return found

    count = len(one.across)
    return positive_part((count * excess(one.mean) - excess(one)) / (count - 1))


def positive_part(matrix: np.ndarray) -> np.ndarray:
    """The nearest matrix that can be a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    found: np.ndarray = (vectors * np.maximum(values, 0)) @ vectors.T
    return found


def draw_freedom(one: Products, direction: np.ndarray) -> float:
    """Degrees of freedom of the draws' share along a combination of (A, B, C), from what each repetition adds to it."""
    mean = one.mean
    found = direction[0] * mean.across[0].mean(axis=1) + direction[1] * 2 * mean.found[0].mean(axis=1)
    reference = direction[0] * mean.across[0].mean(axis=0) + direction[2] * 2 * mean.reference[0].mean(axis=1)
    parts = [(values.var(ddof=1) / len(values), len(values) - 1) for values in (found, reference)]
    return satterthwaite(parts)


def satterthwaite(parts: list[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances from those of each; at least one."""
    known = sum(variance**2 / freedom for variance, freedom in parts)
    return max(1.0, sum(variance for variance, _ in parts) ** 2 / known) if known > 0 else 1.0


def fieller(above: float, below: float, variance: np.ndarray, quantile: float) -> tuple[float, float]:
    """The ratios r at which above - r·below is no further from 0 than its error; ``variance`` is that of both."""
    squared = quantile * quantile
    a = below * below - squared * variance[1, 1]
    b = above * below - squared * variance[0, 1]
    c = above * above - squared * variance[0, 0]
    if a <= 0:
        return -float("inf"), float("inf")
    half = max(b * b - a * c, 0.0) ** 0.5
    return (b - half) / a, (b + half) / a


def ratio(above: float, below: float, slopes: np.ndarray, one: Products) -> Estimate:
    """``slopes`` (2, 3): how numerator and denominator depend on (A, B, C)."""
    value = above / below
    direction = np.array([1.0, -value]) @ slopes
    contexts, draws = context_share(one), draw_share(one)
    freedom = satterthwaite(
        [
            (direction @ contexts @ direction, len(one.across) - 1),
            (direction @ draws @ direction, draw_freedom(one, direction)),
        ]
    )
    total = slopes @ (contexts + draws) @ slopes.T
    return Estimate(value, *fieller(above, below, total, float(student.ppf((1 + LEVEL) / 2, freedom))))


def centred(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = values - values.mean(axis=(1, 2), keepdims=True)
    return found


def mean_reliability(values: np.ndarray, signal: float) -> float:
    """Share of signal in the variance over tokens of the mean of all repetitions."""
    return float(np.clip(signal / values.mean(axis=0).var(), 0, 1))


def agreement(found: np.ndarray, reference: np.ndarray) -> Agreement:
    """Of ``reference`` (S, contexts, tokens) with ``found`` (R, contexts, tokens), both repeated with fresh draws."""
    assert min(len(found), len(reference)) >= FEWEST, f"an interval needs {FEWEST} repetitions of either estimator"
    x, y = centred(found), centred(reference)
    one = Products.of(x, y)
    a, b, c = map(float, one.terms().mean(axis=0))
    slope = ratio(a, b, np.array([[1.0, 0, 0], [0, 1.0, 0]]), one) if b > 0 else UNKNOWN
    correlation = UNKNOWN
    if b > 0 and c > 0:
        halves = np.array([[1.0, 0, 0], [0, 0.5 * (c / b) ** 0.5, 0.5 * (b / c) ** 0.5]])
        correlation = ratio(a, (b * c) ** 0.5, halves, one)
    return Agreement(correlation, slope, mean_reliability(x, b), mean_reliability(y, c))
