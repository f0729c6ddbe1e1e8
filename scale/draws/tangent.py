"""Covariances under a Langevin posterior, from gradients carried along the chain.

For the diffusion dX = -∇U dt + √2 dW, whose law is exp(-U) at all times if it is at one,

    Cov(f, g) = ∫₀^∞ E[ (J_t ∇f(X_0))·∇g(X_t) ] dt,   dJ_t = -∇²U(X_t) J_t dt,   J_0 = 1

What a small push along ∇f(X_0) is worth to g, summed over all later times (docs/estimators.md). In steps of time τ,
with the drift of U = nβ L + γ|x|²/2 and noise R that two steps share (Leimkuhler & Matthews 2013),

    X_{n+1} = X_n - τ ∇U(X_n) + sqrt(τ/2) (R_n + R_{n+1})
    Cov(f, g) = τ Σ_{n≥0} E[ (J_n ∇f(X_0))·∇g(X_{n+1}) ],   J_n = (1 - τ∇²U(X_n)) ... (1 - τ∇²U(X_1))

Where U, f and g are quadratic this is exact for any step that is stable: with curvature λ of U and k = 1 - τλ the law
has variance 1/λ, and E[X_0 X_{n+1}] = k^n (1 + k) / 2λ, so that

    τ Σ k^n = 1/λ = Cov(x, x)        τ Σ k^n · 4 E[X_0 X_{n+1}] = 2/λ² = Cov(x², x²)

The localisation's share of J_n is (1 - θ)^n, θ = γτ, whatever the path: a lag n is drawn with probability θ(1 - θ)^n,
and

    Cov(f, g) = E[ u_n·∇g(X_{n+1}) ] / γ,   u <- u - τnβ/(1 - θ) ∇²L(X) u,   u_0 = ∇f(X_0)

The curvature is a difference of two gradients, whose mean is the drift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from scale.draws.gaussian import TINY

#: Points (rows, parameters) to the gradients of L there.
Slopes = Callable[[torch.Tensor], torch.Tensor]
#: θ of a chain whose step size nothing else decides: three steps a draw, far from the edge of stability.
USUAL_THETA = 0.25


def lags(count: int, shift: float, theta: float) -> np.ndarray:
    """Numbers n of the law θ(1 - θ)^n, spread as evenly as can be however many of them are taken.

    Uniform numbers are van der Corput's, shifted by one that is random in [0, 1).
    """
    from scipy.stats import qmc  # takes a second to import, and other estimators do without

    uniform = (qmc.Halton(1, scramble=False).random(count).ravel() + shift) % 1.0
    found: np.ndarray = np.floor(np.log1p(-uniform) / np.log1p(-theta)).astype(int)
    return found


@dataclass(frozen=True)
class Walkers:
    """Where chains are, and the noise of the last step, which the next one shares: both (rows, parameters)."""

    points: torch.Tensor
    noise: torch.Tensor


@dataclass(frozen=True)
class Flow:
    """The motion of points, and of what they carry.

    Args:
        localization: γ.
        nbeta: nβ.
        theta: θ = γτ, below 1.
        reach: Half the distance over which gradients are compared for a curvature.
    """

    localization: float
    nbeta: float
    theta: float
    reach: float

    @property
    def time(self) -> float:
        """τ."""
        return self.theta / self.localization

    def start(self, noise: torch.Tensor, other: torch.Tensor) -> Walkers:
        """Of the law that there would be without a loss."""
        rest = ((1 - self.theta / 2) / self.localization) ** 0.5
        return Walkers((self.time / 2) ** 0.5 * noise + rest * other, noise)

    def step(self, walkers: Walkers, slopes: torch.Tensor, fresh: torch.Tensor) -> Walkers:
        """With the gradients of L where the walkers are, and new noise."""
        shared = (self.time / 2) ** 0.5 * (walkers.noise + fresh)
        return Walkers((1 - self.theta) * walkers.points - self.time * self.nbeta * slopes + shared, fresh)

    def carry(
        self, walkers: Walkers, carried: torch.Tensor, fresh: torch.Tensor, slopes: Slopes
    ) -> tuple[Walkers, torch.Tensor]:
        """A step of walkers and of the vectors they carry, (rows, parameters)."""
        lengths = torch.linalg.vector_norm(carried, dim=1, keepdim=True)
        aside = carried * (self.reach / lengths.clamp_min(TINY))
        ahead, behind = slopes(torch.cat([walkers.points + aside, walkers.points - aside])).chunk(2)
        bend = (ahead - behind) * (lengths / (2 * self.reach))
        moved = self.step(walkers, (ahead + behind) / 2, fresh)
        return moved, carried - self.time * self.nbeta / (1 - self.theta) * bend
