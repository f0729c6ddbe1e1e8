"""Susceptibilities from losses at draws: the arithmetic, without a model.

For a component C with draws w_1..w_n and a token t, let φ_k = L(w_k) - L(w*) and
δ_k(t) = (l_t - L)(w_k) - (l_t - L)(w*). The two-chain estimator has parts that are stored apart:

    covariance  Cov_C(φ, δ)      unbiased, over the draws the token was probed at
    shift       E_C[δ]           mean over the same draws
    full        E_full[δ]        mean over draws of the unrestricted chain
    χ = - covariance - E_C[φ] (shift - full)

All sums are float64 and centred at w*, so that nothing large is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Estimator = Literal["two-chain", "covariance"]


class Moments:
    """Running mean and co-moment of (φ, δ(t)) over draws, for many tokens at once."""

    def __init__(self, tokens: int) -> None:
        self.count = 0
        self.phi = 0.0
        self.delta = np.zeros(tokens)
        self.comoment = np.zeros(tokens)

    def update(self, phi: np.ndarray, delta: np.ndarray) -> None:
        """A batch of draws: φ (draws,), δ (draws, tokens)."""
        batch = Moments(len(self.delta))
        batch.count = len(phi)
        batch.phi, batch.delta = float(phi.mean()), delta.mean(axis=0)
        batch.comoment = (phi - batch.phi) @ (delta - batch.delta)
        self.merge(batch)

    def merge(self, other: Moments) -> None:
        """Add the draws of ``other`` (Chan's formula)."""
        assert self.delta.shape == other.delta.shape
        total = self.count + other.count
        if total == 0:
            return
        phi_gap, delta_gap = other.phi - self.phi, other.delta - self.delta
        self.comoment += other.comoment + phi_gap * delta_gap * self.count * other.count / total
        self.phi += phi_gap * other.count / total
        self.delta += delta_gap * other.count / total
        self.count = total

    def result(self) -> Parts:
        assert self.count >= 2, "a covariance needs two draws"
        return Parts(self.comoment / (self.count - 1), self.delta.copy())


@dataclass(frozen=True)
class Parts:
    """Covariance and shift of every token."""

    covariance: np.ndarray
    shift: np.ndarray


def assemble(
    covariance: np.ndarray, shift: np.ndarray, full: np.ndarray, mean_phi: np.ndarray, estimator: Estimator
) -> np.ndarray:
    """χ from its parts; ``covariance`` and ``shift`` (..., C), ``full`` (...), ``mean_phi`` E_C[φ] (..., C)."""
    if estimator == "covariance":
        return -covariance
    return -covariance - mean_phi * (shift - full[..., None])


def spearman_brown(correlation: np.ndarray, length: float = 2) -> np.ndarray:
    """Reliability length·r / (1 + (length - 1)·r) of a measurement ``length`` times as long as two that correlate by r.

    By default that of the mean of both. A negative correlation is no reliability.
    """
    positive = np.clip(correlation, 0.0, 1.0)
    return length * positive / (1 + (length - 1) * positive)


def column_correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column of two tables of the same shape; NaN where one of them is constant."""
    a, b = left - left.mean(axis=0), right - right.mean(axis=0)
    scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def reliability(halves: np.ndarray) -> np.ndarray:
    """Split-half reliability of every column of ``halves`` (rows, 2, C)."""
    wide = np.asarray(halves, np.float64)
    return spearman_brown(column_correlation(wide[:, 0], wide[:, 1]))
