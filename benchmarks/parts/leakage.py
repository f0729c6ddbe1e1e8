"""How close a part of χ is to activations, and how close it would be without its noise.

Linear CKA, debiased: its expectation is near 0 for unrelated rows, so that noise in X leaves HSIC(X, Y) alone and
raises HSIC(X, X). Two measurements of the same signal with noises of their own, X₁ and X₂, share the signal's HSIC
only. So

    corrected = CKA(X_h, Y) / sqrt(CKA(X₁, X₂))

is the CKA of the signal with Y. Without the correction a part would seem far from activations because it is noisy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aux.moments import row_blocks
from benchmarks.parts.bases import EXPLAINED, fit
from eval.cka import CKA, LinearCKA


@dataclass(frozen=True)
class Leakage:
    """Linear CKA of one part with one layer.

    Args:
        cka: Of both halves' mean, as the leakage stage has it.
        debiased: The same, debiased.
        corrected: For noise; None where the halves have nothing in common.
        permuted: Debiased, with rows permuted.
    """

    cka: float
    debiased: float
    corrected: float | None
    permuted: float


def alignment(X: np.ndarray, Y: np.ndarray) -> CKA:
    sums = LinearCKA(X.shape[1], Y.shape[1])
    for x, y in zip(row_blocks(X), row_blocks(Y), strict=True):
        sums.update(x, y)
    return sums.result()


def coordinates(halves: np.ndarray, components: Sequence[str]) -> np.ndarray:
    """(rows, 2, P) in the basis of both halves' mean, as the aux stage has it."""
    basis = fit(halves.mean(axis=1), components, EXPLAINED)
    return np.stack([basis.coordinates(halves[:, half]) for half in range(2)], axis=1)


def leakage(placed: np.ndarray, activations: np.ndarray, seed: int) -> Leakage:
    """Of ``coordinates`` (rows, 2, P) and one layer's activations (rows, D)."""
    mean = placed.mean(axis=1)
    whole = alignment(mean, activations)
    common = alignment(placed[:, 0], placed[:, 1]).debiased
    each = np.mean([alignment(placed[:, half], activations).debiased for half in range(2)])
    permuted = alignment(mean[np.random.default_rng(seed).permutation(len(mean))], activations)
    corrected = float(each / np.sqrt(common)) if common > 0 else None
    return Leakage(whole.value, whole.debiased, corrected, permuted.debiased)
