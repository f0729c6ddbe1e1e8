"""Probing for the estimator `gaussian-gradient`: derivatives of a document's token losses along stored directions.

A document takes a random few of the pairs X, -X with their directions, and pairs each with a Y of its own: so the error
is independent between documents but for what the directions share. Means over pairs; the derivative of L itself is the
same for all tokens and documents, and is put in as the variance of φ over all draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scale.batches import Budget
from scale.chains import Draws
from scale.components import Component
from scale.config import ProbeConfig, SGLDConfig
from scale.directions import point
from scale.estimate import Parts
from scale.gaussian import EVALUATIONS, between, derivative, evaluated_at, normal, stratified
from scale.probe import HALVES, Pool, Source, mean_of, subset_generator
from scale.tail import Tail
from scale.variants import Stack, size_of

Halves = tuple[Sequence[Draws], Sequence[Draws]]
#: The number of every chain in each half.
Numbers = tuple[Sequence[int], Sequence[int]]


class Sums:
    """Sums over pairs, of derivatives and of losses, for many tokens."""

    def __init__(self, tokens: int) -> None:
        self.count = 0
        self.derivative, self.loss = np.zeros(tokens), np.zeros(tokens)

    def update(self, derivatives: np.ndarray, losses: np.ndarray) -> None:
        """Both (pairs, tokens)."""
        self.count += len(losses)
        self.derivative += derivatives.sum(axis=0)
        self.loss += losses.sum(axis=0)


@dataclass(frozen=True)
class Drawn:
    """What was drawn of one component, in two halves, and L there."""

    component: Component
    draws: Halves
    trained_loss: float
    settings: SGLDConfig

    @property
    def phi(self) -> tuple[np.ndarray, np.ndarray]:
        first, second = (np.stack([chain.loss for chain in half]) - self.trained_loss for half in self.draws)
        return first, second

    @property
    def mean_phi(self) -> float:
        return mean_of(self.phi)


@dataclass(frozen=True)
class GradientPool(Drawn):
    """Directions of one component."""

    numbers: Numbers

    @property
    def sigma(self) -> float:
        return self.settings.localization**-0.5

    def variance(self) -> float:
        """Cov_C(φ, L): what all tokens have in common of Cov_C(φ, l_t)."""
        return float(np.concatenate([half.ravel() for half in self.phi]).var(ddof=1))

    def points(self, half: int, pair: int, alpha: float, seed: int, step: float, tail: Tail) -> torch.Tensor:
        """Where the losses are needed for one pair of one document, (4, parameters)."""
        pairs, device = self.settings.draws // 2, tail.tokens.device
        chain, index = divmod(pair, pairs)
        size = size_of(self.component, tail.language_model.parameters)
        x = point(self.component.name, self.numbers[half][chain], index, size, self.settings, device.type).to(device)
        y = self.sigma * normal(size, seed, device.type).to(device)
        rows = [self.draws[half][chain].offsets[2 * index + sign] for sign in range(2)]
        directions = [torch.from_numpy(np.asarray(row, np.float32)).to(device) for row in rows]
        return evaluated_at(between(x, y, alpha), directions, step)

    def lengths(self, half: int, pairs: np.ndarray) -> np.ndarray:
        """Of the directions of some pairs, (pairs, 2)."""
        every = np.stack([chain.trace for chain in self.draws[half]])
        found: np.ndarray = every.reshape(-1, 2)[pairs]
        return found

    def parts(
        self, tail: Tail, half: int, document: int, baseline: np.ndarray, settings: ProbeConfig, budget: Budget
    ) -> Parts:
        generator = subset_generator(self.component.name, document, half, settings)
        total = len(self.draws[half]) * self.settings.draws // 2
        count = min(settings.draws_per_document // HALVES // 2, total)
        chosen, alphas = generator.choice(total, size=count, replace=False), stratified(count, generator)
        seeds = generator.integers(2**62, size=count)
        step, sums = settings.difference_step * self.sigma, Sums(len(baseline))

        def some(begin: int, end: int) -> None:
            rows = [
                self.points(half, int(chosen[i]), float(alphas[i]), int(seeds[i]), step, tail)
                for i in range(begin, end)
            ]
            losses = losses_at(tail, self.component, rows)
            sums.update(derivative(losses, self.lengths(half, chosen[begin:end]), step), losses.mean(axis=1))

        in_pairs(count, tail, self.component, budget, some, EVALUATIONS)
        covariance = sums.derivative / count - self.variance()
        return Parts(covariance, sums.loss / count - baseline - self.mean_phi)


@dataclass(frozen=True)
class GaussianPool(Drawn):
    """The full model: tokens are measured at fresh draws ±Z, which need not be kept."""

    def parts(
        self, tail: Tail, half: int, document: int, baseline: np.ndarray, settings: ProbeConfig, budget: Budget
    ) -> Parts:
        """As many evaluations as a component's; the covariance, which nothing asks for, is NaN."""
        generator = subset_generator(self.component.name, document, half, settings)
        count = settings.draws_per_document // HALVES
        seeds, sums = generator.integers(2**62, size=count), Sums(len(baseline))
        size, device = size_of(self.component, tail.language_model.parameters), tail.tokens.device

        def some(begin: int, end: int) -> None:
            z = torch.stack([normal(size, int(seed), device.type).to(device) for seed in seeds[begin:end]])
            z *= self.settings.localization**-0.5
            losses = losses_at(tail, self.component, [torch.stack([row, -row]) for row in z])
            sums.update(np.zeros((1, 1)), losses.mean(axis=1))

        in_pairs(count, tail, self.component, budget, some, 2)
        return Parts(np.full(len(baseline), np.nan), sums.loss / count - baseline - self.mean_phi)


@torch.no_grad()
def losses_at(tail: Tail, component: Component, points: Sequence[torch.Tensor]) -> np.ndarray:
    """(pairs, evaluations, tokens) float64."""
    found = tail.losses([Stack(component, torch.cat(list(points)))]).flatten(1).double().cpu().numpy()
    shaped: np.ndarray = found.reshape(len(points), -1, found.shape[1])
    return shaped


def in_pairs(
    count: int, tail: Tail, component: Component, budget: Budget, function: Callable[[int, int], None], evaluations: int
) -> None:
    """Call ``function(begin, end)`` over the pairs, as many at a time as the budget allows."""
    size = size_of(component, tail.language_model.parameters)
    tokens = tail.tokens.numel()
    budget.ranges(count, lambda: budget.variants(evaluations * tokens, evaluations * size), function, "pairs")


def source(component: Component, draws: Halves, numbers: Numbers, trained_loss: float, settings: SGLDConfig) -> Source:
    """What tokens are measured with, from the usable draws of one component."""
    if settings.estimator == "gaussian-gradient":
        if component.kind == "full":
            return GaussianPool(component, draws, trained_loss, settings)
        return GradientPool(component, draws, trained_loss, settings, numbers)
    first, second = (np.stack([chain.loss for chain in half]) - trained_loss for half in draws)
    offsets = ([chain.offsets for chain in draws[0]], [chain.offsets for chain in draws[1]])
    return Pool(component, offsets, (first, second))
