"""Derivatives of a document's token losses along stored directions: what probing by gradients has in common.

A document takes a random few of the pairs of draws of either half. Means over pairs; the derivative of L itself is the
same for all tokens and documents, and is put in as the variance of φ over all draws.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scale.chi.estimate import Parts
from scale.chi.probe import HALVES, mean_of, subset_generator
from scale.config import ProbeConfig, SGLDConfig
from scale.draws.chains import Draws
from scale.draws.gaussian import EVALUATIONS, derivative, evaluated_at
from scale.model.batches import Budget
from scale.model.components import Component
from scale.model.tail import Tail
from scale.model.variants import Stack, size_of

Halves = tuple[Sequence[Draws], Sequence[Draws]]
#: Two points, and a direction at each.
Pair = tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]


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
class Pairs:
    """Some pairs of points, made when called for by their place; and the lengths of their directions, (pairs, 2)."""

    pair: Callable[[int], Pair]
    lengths: np.ndarray


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
class Directed(Drawn, ABC):
    """Directions of one component, and the points that they are used at."""

    @abstractmethod
    def pairs(self, half: int, chosen: np.ndarray, generator: np.random.Generator, tail: Tail) -> Pairs:
        """The pairs of draws of these numbers, for one document."""

    def variance(self) -> float:
        """Cov_C(φ, L): what all tokens have in common of Cov_C(φ, l_t)."""
        return float(np.concatenate([half.ravel() for half in self.phi]).var(ddof=1))

    def stored(self, half: int, chain: int, rows: Sequence[int], tail: Tail) -> list[torch.Tensor]:
        kept = self.draws[half][chain].offsets
        return [torch.from_numpy(np.asarray(kept[row], np.float32)).to(tail.tokens.device) for row in rows]

    def lengths(self, half: int, chosen: np.ndarray) -> np.ndarray:
        """Of the directions of some pairs, (pairs, 2)."""
        every = np.stack([chain.trace for chain in self.draws[half]])
        found: np.ndarray = every.reshape(-1, 2)[chosen]
        return found

    def choose(self, half: int, count: int, generator: np.random.Generator) -> np.ndarray:
        """The numbers of so many pairs, as far as there are."""
        total = len(self.draws[half]) * self.settings.draws // 2
        return generator.choice(total, size=min(count, total), replace=False)

    def parts(
        self, tail: Tail, half: int, document: int, baseline: np.ndarray, settings: ProbeConfig, budget: Budget
    ) -> Parts:
        generator = subset_generator(self.component.name, document, half, settings)
        chosen = self.choose(half, settings.draws_per_document // HALVES // 2, generator)
        pairs, count = self.pairs(half, chosen, generator, tail), len(chosen)
        step, sums = settings.difference_step * self.settings.localization**-0.5, Sums(len(baseline))

        def some(begin: int, end: int) -> None:
            losses = losses_at(tail, self.component, [evaluated_at(*pairs.pair(i), step) for i in range(begin, end)])
            sums.update(derivative(losses, pairs.lengths[begin:end], step), losses.mean(axis=1))

        in_pairs(count, tail, self.component, budget, some, EVALUATIONS)
        covariance = sums.derivative / count - self.variance()
        return Parts(covariance, sums.loss / count - baseline - self.mean_phi)


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
