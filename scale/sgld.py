"""Stochastic gradient Langevin dynamics on a flat vector of weights.

    v <- v - (ε/2) G [ nβ ∇L(v) + γ (v - v*) ] + sqrt(ε G) η,   η ~ N(0, I)

with G = 1 (`sgld`; Welling & Teh 2011) or G = 1 / (λ + sqrt(V)), V the running mean of squared gradients of L
(`rmsprop-sgld`; Li et al. 2016, without the divergence term Γ). ε is devinterp's convention: drift ε/2, noise sqrt(ε).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from scale.config import SGLDConfig

Gradient = Callable[[torch.Tensor], tuple[float, torch.Tensor]]


class Preconditioner:
    """The diagonal G of the sampler, adapted by `update` or fixed at 1."""

    def __init__(self, settings: SGLDConfig) -> None:
        self.adaptive = settings.sampler == "rmsprop-sgld"
        self.decay, self.stability = settings.rmsprop_decay, settings.rmsprop_stability
        self.squares: torch.Tensor | None = None

    def update(self, gradient: torch.Tensor) -> torch.Tensor | float:
        if not self.adaptive:
            return 1.0
        if self.squares is None:  # from zero and without bias correction, as devinterp does it
            self.squares = torch.zeros_like(gradient)
        self.squares.lerp_(gradient.square(), 1 - self.decay)
        return 1 / (self.stability + self.squares.sqrt())


def langevin_step(
    weights: torch.Tensor,
    trained: torch.Tensor,
    gradient: torch.Tensor,
    scale: torch.Tensor | float,
    noise: torch.Tensor,
    settings: SGLDConfig,
) -> torch.Tensor:
    drift = settings.nbeta * gradient + settings.localization * (weights - trained)
    spread = (settings.step_size * torch.as_tensor(scale, dtype=weights.dtype)).sqrt()
    return weights - 0.5 * settings.step_size * scale * drift + spread * noise


@dataclass(frozen=True)
class Chain:
    """Draws as offsets from the trained weights, (draws, parameters), and the minibatch loss at every step."""

    offsets: torch.Tensor
    losses: torch.Tensor


def run_chain(
    trained: torch.Tensor,
    gradient: Gradient,
    settings: SGLDConfig,
    generator: torch.Generator,
) -> Chain:
    """One chain from the trained weights; ``gradient(weights)`` gives a minibatch's loss and its gradient.

    A chain whose gradient is no longer finite stays where it is; its losses tell the caller to leave it out.
    """
    preconditioner = Preconditioner(settings)
    weights = trained.clone()
    offsets, losses = [], []
    steps = settings.burn_in + settings.draws * settings.steps_between_draws
    for step in range(1, steps + 1):
        loss, slope = gradient(weights)
        losses.append(loss)
        noise = torch.randn(weights.shape, generator=generator, dtype=weights.dtype).to(weights.device)
        if torch.isfinite(slope).all():
            weights = langevin_step(weights, trained, slope, preconditioner.update(slope), noise, settings)
        if step > settings.burn_in and (step - settings.burn_in) % settings.steps_between_draws == 0:
            offsets.append((weights - trained).cpu())
    return Chain(torch.stack(offsets), torch.tensor(losses, dtype=torch.float64))
