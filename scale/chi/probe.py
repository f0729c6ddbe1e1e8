"""Probing: the losses of a document's tokens at stored draws, reduced at once to the parts of its susceptibilities.

Every document is probed at a random subset of the draws of its own, so that the finite-draw error is independent
between documents. Half of the subset comes from either half of the chains: two independent measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from scale.chi.estimate import Moments, Parts
from scale.config import ProbeConfig
from scale.model.batches import Budget
from scale.model.components import Component
from scale.model.forward import streams
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack
from scale.seeds import generator_for

HALVES = 2


def mean_of(phi: tuple[np.ndarray, np.ndarray]) -> float:
    """E_C[φ] over all draws of both halves.

    One number for both: it scales a whole column, and the error of two numbers would scale the large part that all
    columns share, E_full[l_t - L], into a direction of its own with opposite signs in the two halves.
    """
    return float(np.concatenate([half.ravel() for half in phi]).mean())


class Source(Protocol):
    """What is known of one component's posterior, in two independent halves, and how tokens are measured with it."""

    @property
    def component(self) -> Component: ...

    @property
    def phi(self) -> tuple[np.ndarray, np.ndarray]:
        """L(w) - L(w*) at the draws of each half, (chains, draws)."""

    @property
    def mean_phi(self) -> float: ...

    def parts(
        self, tail: Tail, half: int, document: int, baseline: np.ndarray, settings: ProbeConfig, budget: Budget
    ) -> Parts:
        """One half's measurement of the tokens of ``tail``, contexts of one document; ``baseline`` is l_t(w*)."""


@dataclass(frozen=True)
class Pool:
    """The usable draws of one component, in two halves of independent chains.

    ``offsets[half]`` lists the chains' draws, each (draws, parameters); ``phi[half]`` is their L(w) - L(w*), (chains,
    draws). ``evaluations`` is how many of them a document takes in place of one.
    """

    component: Component
    offsets: tuple[Sequence[Sequence[np.ndarray] | np.ndarray], Sequence[Sequence[np.ndarray] | np.ndarray]]
    phi: tuple[np.ndarray, np.ndarray]
    evaluations: int = 1

    @property
    def mean_phi(self) -> float:
        return mean_of(self.phi)

    def pick(self, half: int, count: int, generator: np.random.Generator) -> np.ndarray:
        """A random subset of one half's draws, without repetition, as flat indices into (chains, draws)."""
        total = self.phi[half].size
        return generator.choice(total, size=min(count, total), replace=False)

    def draws(self, half: int, chosen: np.ndarray) -> np.ndarray:
        """Offsets of some draws, (chosen, parameters) float32."""
        chain, draw = np.divmod(chosen, self.phi[half].shape[1])
        rows = [self.offsets[half][c][d] for c, d in zip(chain, draw, strict=True)]
        return np.stack(rows).astype(np.float32, copy=False)

    def parts(
        self, tail: Tail, half: int, document: int, baseline: np.ndarray, settings: ProbeConfig, budget: Budget
    ) -> Parts:
        generator = subset_generator(self.component.name, document, half, settings)
        chosen = self.pick(half, self.evaluations * settings.draws_per_document // HALVES, generator)
        return probe_half(tail, self, half, chosen, baseline, budget).result()


def subset_generator(component: str, document: int, half: int, settings: ProbeConfig) -> np.random.Generator:
    """Decides which draws a document is probed at."""
    if settings.draws == "shared":
        return generator_for(settings.seed, component, half)
    return generator_for(settings.seed, component, half, document)


@torch.no_grad()
def trained_losses(tail: Tail) -> np.ndarray:
    """l_t(w*) of every row, float64."""
    return tail.losses().double().flatten().cpu().numpy()


@torch.no_grad()
def probe_half(tail: Tail, pool: Pool, half: int, chosen: np.ndarray, baseline: np.ndarray, budget: Budget) -> Moments:
    """The moments of one half over the chosen draws, as many draws at a time as the budget allows."""
    moments = Moments(len(baseline))
    phi, device = pool.phi[half].ravel(), tail.tokens.device

    def some(begin: int, end: int) -> None:
        part = chosen[begin:end]
        offsets = torch.from_numpy(pool.draws(half, part)).to(device)
        losses = tail.losses([Stack(pool.component, offsets)]).flatten(1).double().cpu().numpy()
        moments.update(phi[part], losses - baseline - phi[part, None])

    parameters = len(pool.offsets[half][0][0])
    budget.ranges(len(chosen), lambda: budget.variants(tail.tokens.numel(), parameters), some)
    return moments


def probe_component(
    tail: Tail, pool: Source, document: int, baseline: np.ndarray, settings: ProbeConfig, budget: Budget
) -> tuple[Parts, Parts]:
    """Both halves of one component's parts for the tokens of ``tail``; ``baseline`` is l_t(w*)."""
    first, second = (pool.parts(tail, half, document, baseline, settings, budget) for half in range(HALVES))
    return first, second


@dataclass(frozen=True)
class Measured:
    """The parts of one document's susceptibilities: (rows, 2, C), (rows, 2, C), (rows, 2) and l_t(w*) (rows,)."""

    covariance: np.ndarray
    shift: np.ndarray
    full: np.ndarray
    loss: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        return {key: value.astype(np.float32) for key, value in vars(self).items()}


def probe_document(
    language_model: LanguageModel,
    tokens: np.ndarray,
    document: int,
    pools: Sequence[Source],
    full: Source | None,
    settings: ProbeConfig,
    budget: Budget | None = None,
) -> Measured:
    """Measure every component on the contexts of one document, as many contexts at a time as the budget allows.

    Without an unrestricted chain, ``full`` is NaN.
    """
    held = budget or Budget.of(language_model.device)
    found: list[Measured] = []

    def some(begin: int, end: int) -> None:
        found.append(probe_contexts(language_model, tokens[begin:end], document, pools, full, settings, held))

    held.ranges(len(tokens), lambda: held.variants(tokens.shape[1]), some, "contexts")
    return Measured(*(np.concatenate(arrays) for arrays in zip(*(vars(part).values() for part in found), strict=True)))


def probe_contexts(
    language_model: LanguageModel,
    tokens: np.ndarray,
    document: int,
    pools: Sequence[Source],
    full: Source | None,
    settings: ProbeConfig,
    budget: Budget,
) -> Measured:
    """The hidden states below every layer come from one forward pass and are shared by all components and draws."""
    ids = torch.from_numpy(np.ascontiguousarray(tokens)).long().to(language_model.device)
    starts = sorted({0, *(pool.component.start for pool in pools)})
    hidden = streams(language_model, ids, starts, budget)
    tails = {start: Tail(language_model, ids, start, hidden[start]) for start in starts}
    baseline = trained_losses(tails[0])
    parts = [probe_component(tails[pool.component.start], pool, document, baseline, settings, budget) for pool in pools]
    unrestricted = np.full((len(baseline), HALVES), np.nan)
    if full is not None:
        both = probe_component(tails[0], full, document, baseline, settings, budget)
        unrestricted = np.stack([half.shift for half in both], axis=1)
    return Measured(
        covariance=np.stack([[half.covariance for half in both] for both in parts]).transpose(2, 1, 0),
        shift=np.stack([[half.shift for half in both] for both in parts]).transpose(2, 1, 0),
        full=unrestricted,
        loss=baseline,
    )
