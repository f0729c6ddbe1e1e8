"""What tokens are measured with, estimator by estimator.

Of `gaussian-gradient`, a document pairs each X with a Y of its own: so the error is independent between documents but
for what the directions share. Of `mean-gradient` every Y is a document's own, and the direction is one for all. Of
`tangent-gradient`, the points are those the chains came to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scale.chi.directed import Directed, Drawn, Halves, Pair, Pairs, Sums, in_pairs, losses_at
from scale.chi.estimate import Parts
from scale.chi.probe import HALVES, Pool, Source, subset_generator
from scale.config import ProbeConfig, SGLDConfig
from scale.costs import METHODS
from scale.draws.directions import point
from scale.draws.gaussian import EVALUATIONS, between, normal, stratified
from scale.draws.mean_gradient import common_share
from scale.model.batches import Budget
from scale.model.components import Component
from scale.model.tail import Tail
from scale.model.variants import size_of

#: The number of every chain in each half.
Numbers = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class GradientPool(Directed):
    """Directions at X of a Gaussian, and points Z = αX + sqrt(1 - α²) Y."""

    numbers: Numbers

    def pairs(self, half: int, chosen: np.ndarray, generator: np.random.Generator, tail: Tail) -> Pairs:
        alphas, seeds = stratified(len(chosen), generator), generator.integers(2**62, size=len(chosen))
        size, device = size_of(self.component, tail.language_model.parameters), tail.tokens.device
        sigma = self.settings.localization**-0.5

        def pair(i: int) -> Pair:
            chain, index = divmod(int(chosen[i]), self.settings.draws // 2)
            number = self.numbers[half][chain]
            x = point(self.component.name, number, index, size, self.settings, device.type).to(device)
            y = sigma * normal(size, int(seeds[i]), device.type).to(device)
            z = between(x, y, float(alphas[i]))
            return (z, -z), self.stored(half, chain, [2 * index, 2 * index + 1], tail)

        return Pairs(pair, self.lengths(half, chosen))


@dataclass(frozen=True)
class MeanPool(Directed):
    """The mean direction of each half, and fresh points ±Y."""

    def choose(self, half: int, count: int, generator: np.random.Generator) -> np.ndarray:
        """There is no end of them."""
        return np.arange(count)

    def direction(self, half: int) -> np.ndarray:
        """v̄ of the chains of one half, (parameters,)."""
        chains = self.draws[half]
        total = sum(chain.trace[0] * np.asarray(chain.offsets[0], np.float64) for chain in chains)
        mean: np.ndarray = total / (len(chains) * len(total) ** 0.5)
        return mean

    def pairs(self, half: int, chosen: np.ndarray, generator: np.random.Generator, tail: Tail) -> Pairs:
        seeds, device = generator.integers(2**62, size=len(chosen)), tail.tokens.device
        size, sigma = size_of(self.component, tail.language_model.parameters), self.settings.localization**-0.5
        direction = torch.from_numpy(self.direction(half).astype(np.float32)).to(device)

        def pair(i: int) -> Pair:
            y = sigma * normal(size, int(seeds[i]), device.type).to(device)
            return (y, -y), (direction, direction)

        return Pairs(pair, np.full((len(chosen), 2), float(direction.norm())))


def common_to_draws(pool: Source) -> float | None:
    """Of a gradient, the share that is common to all draws, where the rest is left out; else None."""
    if not isinstance(pool, MeanPool):
        return None
    return float(np.mean([common_share(chain.trace) for half in pool.draws for chain in half]))


@dataclass(frozen=True)
class TangentPool(Directed):
    """Points that the chains came to, and the directions that they carried there."""

    def pairs(self, half: int, chosen: np.ndarray, generator: np.random.Generator, tail: Tail) -> Pairs:
        def pair(i: int) -> Pair:
            chain, index = divmod(int(chosen[i]), self.settings.draws // 2)
            rows = self.stored(half, chain, range(4 * index, 4 * index + 4), tail)
            return rows[:2], rows[2:]

        return Pairs(pair, self.lengths(half, chosen))


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


def source(component: Component, draws: Halves, numbers: Numbers, trained_loss: float, settings: SGLDConfig) -> Source:
    """What tokens are measured with, from the usable draws of one component."""
    whole = component.kind == "full"
    if METHODS[settings.estimator].gaussian and whole:
        return GaussianPool(component, draws, trained_loss, settings)
    if settings.estimator == "gaussian-gradient":
        return GradientPool(component, draws, trained_loss, settings, numbers)
    if settings.estimator == "mean-gradient":
        return MeanPool(component, draws, trained_loss, settings)
    if settings.estimator == "tangent-gradient" and not whole:
        return TangentPool(component, draws, trained_loss, settings)
    first, second = (np.stack([chain.loss for chain in half]) - trained_loss for half in draws)
    offsets = ([chain.offsets for chain in draws[0]], [chain.offsets for chain in draws[1]])
    # Of the full model as many evaluations as of a component, whose every draw takes two.
    return Pool(component, offsets, (first, second), 1 if settings.estimator == "plain" else EVALUATIONS // 2)
