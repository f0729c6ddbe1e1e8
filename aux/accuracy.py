"""How well predicted coordinates agree with measured ones, and how well they could.

What is compared decides what a number means. Let the model be trained on measurements at draws A and judged on
held-out documents:
- against measurements at independent draws B, no predictor can pass the noise ceiling (`noise_ceiling`): this is
  the honest figure (`pearson`);
- against measurements at the same draws A, the finite-draw error is partly shared between training and held-out
  tokens and can be learned: the published practice (`pearson_shared`), which may pass the ceiling.

Legend: N rows, P coordinates, D documents, B resamplings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scale.chi.estimate import spearman_brown

LEVEL = 0.95


@dataclass(frozen=True)
class Agreement:
    """Per coordinate: Pearson correlation (0 where either side is constant) and the coefficient of determination.

    R² = 1 - Σ(t - p)² / Σ(t - t̄)² punishes a wrong scale or offset, which the correlation does not see.
    """

    pearson: np.ndarray
    r2: np.ndarray


def _agreement(pp: np.ndarray, tt: np.ndarray, pt: np.ndarray, offset_squared: np.ndarray) -> Agreement:
    """From centred mean products of predictions p and truth t, and the squared difference of their means."""
    spread = np.sqrt(pp * tt)
    pearson = np.divide(pt, spread, out=np.zeros_like(pt), where=spread > 0)
    residual = pp - 2 * pt + tt + offset_squared
    r2 = 1 - np.divide(residual, tt, out=np.full_like(pt, np.nan), where=tt > 0)
    return Agreement(np.clip(pearson, -1.0, 1.0), r2)


class PearsonAccumulator:
    """Agreement of predictions with truth that arrive in blocks; float64, centred as it goes."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.means = np.zeros((2, columns))
        self.products = np.zeros((3, columns))

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> PearsonAccumulator:
        """Add the rows of one block: predictions (N, P) and truth (N, P)."""
        assert prediction.shape == truth.shape, (prediction.shape, truth.shape)
        if len(prediction) == 0:
            return self
        part = PearsonAccumulator(prediction.shape[1])
        sides = np.stack([np.asarray(prediction, dtype=np.float64), np.asarray(truth, dtype=np.float64)])
        part.count, part.means = len(prediction), sides.mean(axis=1)
        p, t = sides - part.means[:, None]
        part.products = np.stack([(p * p).sum(axis=0), (t * t).sum(axis=0), (p * t).sum(axis=0)])
        return self.merge(part)

    def merge(self, other: PearsonAccumulator) -> PearsonAccumulator:
        """Add everything that `other` has seen."""
        assert self.means.shape == other.means.shape, "accumulators of different coordinates"
        total = self.count + other.count
        if other.count:
            p, t = other.means - self.means
            self.products += other.products + np.stack([p * p, t * t, p * t]) * (self.count * other.count / total)
            self.means = self.means + np.stack([p, t]) * (other.count / total)
            self.count = total
        return self

    def result(self) -> Agreement:
        """Agreement over all rows seen."""
        assert self.count > 0, "no rows seen"
        pp, tt, pt = self.products / self.count
        return _agreement(pp, tt, pt, np.square(self.means[0] - self.means[1]))


@dataclass(frozen=True)
class Accuracy:
    """Agreement per coordinate with intervals over documents, and the mean Pearson over coordinates with its own."""

    pearson: np.ndarray
    pearson_low: np.ndarray
    pearson_high: np.ndarray
    r2: np.ndarray
    mean_pearson: float
    mean_pearson_low: float
    mean_pearson_high: float


def accuracy(
    prediction: np.ndarray, truth: np.ndarray, documents: np.ndarray, *, bootstrap: int, seed: int, level: float = LEVEL
) -> Accuracy:
    """Agreement of predictions (N, P) with truth (N, P), with percentile intervals from resampled documents.

    Whole documents are resampled, because tokens of one document are not independent of each other.
    """
    assert prediction.shape == truth.shape == (len(documents), truth.shape[1]), (prediction.shape, truth.shape)
    full = PearsonAccumulator(truth.shape[1]).update(prediction, truth).result()
    sums = _document_sums(prediction, truth, documents)
    resampled = _resampled_pearson(sums, bootstrap, np.random.default_rng(seed))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(resampled, tails, axis=0)
    mean_low, mean_high = np.quantile(resampled.mean(axis=1), tails)
    return Accuracy(full.pearson, low, high, full.r2, float(full.pearson.mean()), float(mean_low), float(mean_high))


def _document_sums(prediction: np.ndarray, truth: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Per document (D, 6, P): rows, Σp, Σt, Σp², Σt², Σpt, about the means over all rows."""
    p = np.asarray(prediction, dtype=np.float64) - prediction.mean(axis=0, dtype=np.float64)
    t = np.asarray(truth, dtype=np.float64) - truth.mean(axis=0, dtype=np.float64)
    _, slot = np.unique(documents, return_inverse=True)
    members = sparse.csr_array((np.ones(len(slot)), (slot, np.arange(len(slot)))))
    rows = np.broadcast_to(members.sum(axis=1)[:, None], (members.shape[0], p.shape[1]))
    return np.stack([rows, *(members @ values for values in (p, t, p * p, t * t, p * t))], axis=1)


def _resampled_pearson(sums: np.ndarray, resamplings: int, rng: np.random.Generator) -> np.ndarray:
    """Pearson (B, P) over as many documents drawn with replacement."""
    documents = len(sums)
    draws = rng.multinomial(documents, np.full(documents, 1 / documents), size=resamplings).astype(np.float64)
    n, p, t, pp, tt, pt = np.moveaxis((draws @ sums.reshape(documents, -1)).reshape(resamplings, *sums.shape[1:]), 1, 0)
    p, t = p / n, t / n
    # Rounding may leave a constant side a hair below zero.
    var_p, var_t = (np.maximum(square / n - mean * mean, 0.0) for square, mean in ((pp, p), (tt, t)))
    return _agreement(var_p, var_t, pt / n - p * t, np.square(p - t)).pearson


def noise_ceiling(first: np.ndarray, second: np.ndarray, *, length: float) -> np.ndarray:
    """The highest correlation (P,) that any predictor can reach with a held-out measurement, in expectation.

    `first` and `second` (N, P) measure the same rows at independent draws; their correlation r is the reliability of
    one of them. A measurement `length` times as long (1: one half is judged against; 2: the mean of both) has
    reliability r' by Spearman and Brown, and correlates sqrt(r') with the truth. A reliability that comes out
    negative is taken as 0.
    """
    reliability = PearsonAccumulator(first.shape[1]).update(first, second).result().pearson
    return np.sqrt(spearman_brown(reliability, length))
