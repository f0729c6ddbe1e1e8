"""Covariances under a Gaussian, from gradients.

For independent X, Y ~ N(0, Σ), and α uniform on (0, 1),

    Cov(f, g) = E[ ∇f(X)ᵀ Σ ∇g(Z) ],   Z = αX + sqrt(1 - α²) Y

(Houdré, Pérez-Abreu & Surgailis 1998): both ends are N(0, Σ), and as α goes from 0 to 1 they go from independent to
equal; the covariance is what is gained on the way. The plain estimator lives off the fluctuations of f, which are small
where there are many dimensions; this one does not: for linear f and g it is exact from a single draw.

With v = Σ∇f(X) what is needed of g is its derivative along v at Z. Here Σ = σ² I, draws come in pairs ±, at which odd
terms cancel, and the derivative is a central difference:

    ∇g(Z)·v = |v| (g(Z + hv/|v|) - g(Z - hv/|v|)) / 2h + O(h²)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

#: Evaluations of g that a pair of draws takes: two signs of Z, and two sides of each.
EVALUATIONS = 4
#: In place of a length of zero.
TINY = 1e-30


def normal(parameters: int, seed: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Standard normal numbers (parameters,), the same whenever they are asked for on this kind of device."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(parameters, generator=generator, device=device)


def stratified(count: int, generator: np.random.Generator) -> np.ndarray:
    """Numbers uniform on (0, 1), one in each of ``count`` equal parts, in random order."""
    found: np.ndarray = (generator.permutation(count) + generator.random(count)) / count
    return found


def between(x: torch.Tensor, y: torch.Tensor, alpha: float) -> torch.Tensor:
    """Z = αX + sqrt(1 - α²) Y."""
    return alpha * x + (1 - alpha * alpha) ** 0.5 * y


def evaluated_at(points: Sequence[torch.Tensor], directions: Sequence[torch.Tensor], step: float) -> torch.Tensor:
    """Where a pair of points Z, each with its v, needs g: Z ± step · v/|v|, (4, parameters)."""
    rows = []
    for z, direction in zip(points, directions, strict=True):
        aside = direction * (step / torch.linalg.vector_norm(direction).clamp_min(TINY))
        rows += [z + aside, z - aside]
    return torch.stack(rows)


def derivative(values: np.ndarray, lengths: np.ndarray, step: float) -> np.ndarray:
    """The mean over the pair of ∇g(Z)·v: ``values`` (pairs, 4, tokens) of g, ``lengths`` (pairs, 2) of v."""
    slopes = (values[:, 0::2] - values[:, 1::2]) / (2 * step)
    found: np.ndarray = (slopes * lengths[:, :, None]).mean(axis=1)
    return found
