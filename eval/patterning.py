"""Patterning: which tokens to up- or downweight so that the components change as wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from scale.errors import UserError


@dataclass(frozen=True)
class Pattern:
    """Weights (N,) for the tokens, and the change (C,) of the components that they are predicted to bring about."""

    weights: np.ndarray
    predicted: np.ndarray


def pattern(chi: np.ndarray, target: np.ndarray, *, ridge: float) -> Pattern:
    """Token weights w that bring about the wanted change of the components, as gently as `ridge` asks.

    To first order, weighting token t by w_t changes the components by χᵀw. Minimises, for χ (N, C),

        |χᵀ w - target|² + ridge |w|²,

    whose solution is w = χ (χᵀχ + ridge I)⁻¹ target = (χχᵀ + ridge I)⁻¹ χ target; the smaller system is solved.
    """
    if not ridge > 0:
        raise UserError(f"pattern: ridge must be above 0, got {ridge}")
    if chi.ndim != 2 or target.shape != chi.shape[1:]:
        raise UserError(f"pattern: the target must have one entry per component, got {target.shape} for {chi.shape}")
    values, wanted = np.asarray(chi, dtype=np.float64), np.asarray(target, dtype=np.float64)
    tokens, components = values.shape
    if tokens > components:
        weights = values @ _solve(values.T @ values, ridge, wanted)
    else:
        weights = _solve(values @ values.T, ridge, values @ wanted)
    return Pattern(weights, values.T @ weights)


def _solve(gram: np.ndarray, ridge: float, right: np.ndarray) -> np.ndarray:
    """(gram + ridge I)⁻¹ right."""
    return linalg.solve(gram + ridge * np.eye(len(gram)), right, assume_a="pos")
