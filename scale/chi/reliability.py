"""What each part of χ contributes to every component, and how far its two measurements agree: streamed over tokens.

With κ the covariance, σ = shift - full, and m = E_C[φ], two-chain χ = -κ - m σ is linear in its parts. The covariance
matrix over tokens of (κ, σ) in both halves, four numbers a token, therefore holds everything that is asked here:

    reliability     of a part or of χ: Spearman and Brown's, from the correlation r between the halves
    share           Cov(part, χ) / Var(χ), both the mean of the halves; the shares of both parts add up to one

The reliability of -κ is that of the estimator `covariance`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scale.chi.estimate import spearman_brown

#: κ and σ in the first half, then in the second.
FOUR = 4
#: Rows that are centred and multiplied at once.
ROWS = 2048


@dataclass(frozen=True)
class PartStatistics:
    """One number per component."""

    reliability: np.ndarray
    reliability_covariance: np.ndarray
    reliability_shift: np.ndarray
    share_covariance: np.ndarray
    share_shift: np.ndarray

    def of(self, component: int) -> dict[str, float]:
        return {name: float(values[component]) for name, values in vars(self).items()}


class PartMoments:
    """Mean and co-moment over tokens of each component's parts in both halves, float64."""

    def __init__(self, components: int) -> None:
        self.count = 0
        self.mean = np.zeros((components, FOUR))
        self.comoment = np.zeros((components, FOUR, FOUR))

    def update(self, covariance: np.ndarray, shift: np.ndarray, full: np.ndarray) -> None:
        """Some tokens' parts: (tokens, 2, C), (tokens, 2, C) and (tokens, 2)."""
        for begin in range(0, len(full), ROWS):
            rows = slice(begin, begin + ROWS)
            self.add(four(covariance[rows], shift[rows], full[rows]))

    def add(self, values: np.ndarray) -> None:
        part = PartMoments(len(self.mean))
        part.count, part.mean = values.shape[2], values.mean(axis=2)
        centred = values - part.mean[..., None]
        part.comoment = centred @ centred.swapaxes(1, 2)
        self.merge(part)

    def merge(self, other: PartMoments) -> None:
        """Add the tokens of ``other`` (Chan's formula)."""
        assert self.mean.shape == other.mean.shape
        total = self.count + other.count
        if total == 0:
            return
        gap = other.mean - self.mean
        self.comoment += other.comoment + gap[:, :, None] * gap[:, None, :] * (self.count * other.count / total)
        self.mean += gap * (other.count / total)
        self.count = total

    def result(self, mean_phi: np.ndarray) -> PartStatistics:
        """``mean_phi``: E_C[φ] of every component."""
        one, m = np.ones_like(mean_phi), np.asarray(mean_phi, np.float64)
        kappa, sigma = np.stack([-one, 0 * m], axis=1), np.stack([0 * m, -m], axis=1)
        chi = kappa + sigma
        return PartStatistics(
            reliability=self.agreement(chi),
            reliability_covariance=self.agreement(kappa),
            reliability_shift=self.agreement(np.stack([0 * m, one], axis=1)),
            share_covariance=self.share(kappa, chi),
            share_shift=self.share(sigma, chi),
        )

    def between(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Co-moment of two weighted sums of the four, weights (C, 4)."""
        weights = left[:, :, None] * right[:, None, :]
        return np.where(weights == 0, 0.0, weights * self.comoment).sum(axis=(1, 2))  # 0 · NaN is no part of it

    def agreement(self, weights: np.ndarray) -> np.ndarray:
        """Reliability of the sum of κ and σ that is weighted so, weights (C, 2)."""
        nothing = np.zeros_like(weights)
        first, second = np.hstack([weights, nothing]), np.hstack([nothing, weights])
        variances = self.between(first, first), self.between(second, second)
        scale = np.sqrt(np.maximum(variances[0], 0) * np.maximum(variances[1], 0))
        return spearman_brown(ratio(self.between(first, second), scale))

    def share(self, part: np.ndarray, chi: np.ndarray) -> np.ndarray:
        part, chi = np.hstack([part, part]), np.hstack([chi, chi])
        return ratio(self.between(part, chi), self.between(chi, chi))


def four(covariance: np.ndarray, shift: np.ndarray, full: np.ndarray) -> np.ndarray:
    """(C, 4, tokens) float64."""
    kappa = np.asarray(covariance, np.float64)
    sigma = np.asarray(shift, np.float64) - np.asarray(full, np.float64)[..., None]
    both = np.stack([kappa, sigma], axis=2)  # (tokens, halves, parts, C)
    return np.ascontiguousarray(both.reshape(len(both), FOUR, -1).transpose(2, 1, 0))


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
