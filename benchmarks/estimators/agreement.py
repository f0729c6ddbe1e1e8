"""Do two estimators measure the same thing? Correlation and slope, corrected for the noise of both, with intervals.

Either estimator was repeated: x (R, contexts, tokens) with R independent sets of draws, y (S, contexts, tokens) with S.
Noise is independent between repetitions, so products of different repetitions are free of it, and over tokens

    A = mean of Cov(x_r, y_s)     B = mean over r ≠ r' of Cov(x_r, x_r')     C = mean over s ≠ s' of Cov(y_s, y_s')

estimate the covariance and the variances of the two signals without bias:

    slope of y on x = A / B       correlation = A / sqrt(BC)

Two things were drawn at random: contexts, and draws. An error of draws is common to all contexts of its repetition, and
contexts drawn again know nothing of it. So the variance has three shares, each from what one context or one repetition
adds to (A, B, C) (the infinitesimal jackknife): that of contexts, and for either estimator that of repetitions, less
what both count, the error that a repetition makes in one context alone (multiway clustering: Cameron, Gelbach and
Miller 2011). The interval of a ratio is Fieller's, with Student's quantile at Satterthwaite's degrees of freedom. It
has no end where the denominator could be zero: then noise hides the signal, and nothing is decided. Where noise
outweighs the signal in every single repetition, intervals are somewhat too wide: products of noise with noise count
twice.

Covariances are centred over tokens: what is the same for all tokens has no say here, nor in a column of z-scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

#: Fewest repetitions of either estimator: one left out, there is a pair to compare with.
FEWEST = 3
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
class Share:
    """A source of the variance of (A, B, C): its covariance matrix, and the degrees of freedom it is known with."""

    variance: np.ndarray
    freedom: int


def products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean product over the tokens of each context, of every pair of repetitions: (contexts, left, right)."""
    found: np.ndarray = np.einsum("rct,sct->crs", left, right) / left.shape[2]
    return found


def with_others(values: np.ndarray) -> np.ndarray:
    """Mean product of each repetition with the others, (contexts, R)."""
    pairs = products(values, values)
    found: np.ndarray = (pairs.sum(axis=2) - np.einsum("crr->cr", pairs)) / (len(values) - 1)
    return found


def over_contexts(influence: np.ndarray) -> Share:
    """``influence`` (contexts, 3): what each context adds to (A, B, C)."""
    count = len(influence)
    return Share(np.cov(influence.T) / count, count - 1)


def over_repetitions(influence: np.ndarray) -> Share:
    """``influence`` (contexts, repetitions, 3): variance between repetitions beyond what single contexts give it."""
    contexts, count, _ = influence.shape
    between = influence.mean(axis=0)
    rest = influence - between - influence.mean(axis=1, keepdims=True) + between.mean(axis=0)
    own = np.einsum("cri,crj->ij", rest, rest) / ((contexts - 1) * (count - 1))
    return Share(positive_part(np.cov(between.T) / count - own / (contexts * count)), count - 1)


def positive_part(matrix: np.ndarray) -> np.ndarray:
    """The nearest matrix that can be a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    found: np.ndarray = (vectors * np.maximum(values, 0)) @ vectors.T
    return found


def shares_of(across: np.ndarray, own_x: np.ndarray, own_y: np.ndarray) -> list[Share]:
    """Contexts, repetitions of x and repetitions of y. A repetition is in both places of the pairs that B averages, and
    so counts twice there, as in C.
    """
    context = np.stack([across.mean(axis=(1, 2)), own_x.mean(axis=1), own_y.mean(axis=1)], axis=1)
    x = np.stack([across.mean(axis=2), 2 * own_x, np.zeros_like(own_x)], axis=2)
    y = np.stack([across.mean(axis=1), np.zeros_like(own_y), 2 * own_y], axis=2)
    return [over_contexts(context), over_repetitions(x), over_repetitions(y)]


def fieller(above: float, below: float, variance: np.ndarray, quantile: float) -> tuple[float, float]:
    """The ratios r at which above - r·below is no further from 0 than its error; ``variance`` is that of both."""
    squared = quantile * quantile
    a = below * below - squared * variance[1, 1]
    b = above * below - squared * variance[0, 1]
    c = above * above - squared * variance[0, 0]
    if a <= 0:
        return -float("inf"), float("inf")
    half = max(b * b - a * c, 0.0) ** 0.5
    return float((b - half) / a), float((b + half) / a)


def ratio(above: float, below: float, slopes: np.ndarray, shares: list[Share]) -> Estimate:
    """``slopes`` (2, 3): how numerator and denominator depend on (A, B, C)."""
    value = above / below
    direction = np.array([1.0, -value]) @ slopes
    parts = np.array([direction @ share.variance @ direction for share in shares])
    known = sum(part**2 / share.freedom for part, share in zip(parts, shares, strict=True))
    freedom = max(1.0, parts.sum() ** 2 / known) if known > 0 else 1.0
    total = slopes @ sum(share.variance for share in shares) @ slopes.T
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
    across, own_x, own_y = products(x, y), with_others(x), with_others(y)
    a, b, c = (float(values.mean()) for values in (across, own_x, own_y))
    shares = shares_of(across, own_x, own_y)
    slope = ratio(a, b, np.array([[1.0, 0, 0], [0, 1.0, 0]]), shares) if b > 0 else UNKNOWN
    correlation = UNKNOWN
    if b > 0 and c > 0:
        halves = np.array([[1.0, 0, 0], [0, 0.5 * (c / b) ** 0.5, 0.5 * (b / c) ** 0.5]])
        correlation = ratio(a, (b * c) ** 0.5, halves, shares)
    return Agreement(correlation, slope, mean_reliability(x, b), mean_reliability(y, c))
