"""Intervals that respect documents: tokens of one document are not independent, so whole documents are resampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from aux.rows import document_hash
from eval.config import LeakageConfig
from scale.errors import UserError


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its confidence interval."""

    value: float
    low: float
    high: float


def bootstrap_mean(
    values: np.ndarray,
    documents: np.ndarray,
    *,
    resamplings: int = LeakageConfig.bootstrap,
    level: float = LeakageConfig.level,
    seed: int = LeakageConfig.seed,
) -> Interval:
    """Mean of one value per row, with the percentile interval over resampled documents.

    Each resampling draws as many documents as there are, with replacement, and takes the mean over all their rows.
    """
    assert values.shape == documents.shape == (len(values),), (values.shape, documents.shape)
    distinct, slot = np.unique(documents, return_inverse=True)
    rows = np.bincount(slot).astype(np.float64)
    sums = np.bincount(slot, weights=values)
    draws = np.random.default_rng(seed).multinomial(
        len(distinct), np.full(len(distinct), 1 / len(distinct)), size=resamplings
    )
    low, high = np.quantile((draws @ sums) / (draws @ rows), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / rows.sum()), float(low), float(high))


def document_groups(documents: np.ndarray, groups: int, *, seed: int = LeakageConfig.seed) -> np.ndarray:
    """A group in [0, groups) for every row: documents dealt out in the order of their hash, never split."""
    distinct, slot = np.unique(documents, return_inverse=True)
    if len(distinct) < groups:
        raise UserError(f"leakage.groups is {groups}, but there are only {len(distinct)} documents to put into them")
    dealt = np.empty(len(distinct), dtype=np.int64)
    dealt[np.argsort(document_hash(distinct, seed), kind="stable")] = np.arange(len(distinct)) % groups
    return dealt[slot]


def jackknife_interval(value: float, left_out: Sequence[float], *, level: float = LeakageConfig.level) -> Interval:
    """Interval from a statistic computed with each of G groups left out in turn.

    Standard error sqrt((G - 1)/G Σ (θ₍g₎ - θ̄)²), Student's t with G - 1 degrees of freedom. For a statistic such as
    CKA, whose resampling would need every row again, this takes G subtractions of sums and is exact about documents.
    """
    without = np.asarray(left_out, dtype=np.float64)
    groups = len(without)
    error = math.sqrt((groups - 1) / groups * float(np.square(without - without.mean()).sum()))
    reach = float(stats.t.ppf((1 + level) / 2, groups - 1)) * error
    return Interval(float(value), float(value) - reach, float(value) + reach)
