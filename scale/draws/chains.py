"""Chains inside a language model: many components and chains of one layer advance together, in one batch.

Works in memory, on a model that is already loaded; `scale.draws.stage` is the stage that writes the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch

from scale.config import SGLDConfig
from scale.draws.sgld import Gradient, Langevin, sample
from scale.errors import UserError
from scale.model.batches import Budget, batches
from scale.model.components import Component
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack, size_of
from scale.seeds import seed_for


@dataclass(frozen=True)
class ChainKey:
    """One chain of one component."""

    component: Component
    chain: int


@dataclass(frozen=True)
class Draws:
    """One chain's draws: offsets (draws, parameters) from the trained weights, L at each, and the minibatch trace.

    Of `scale.draws.directions` they are directions, and the trace is their lengths; of `scale.draws.flow` points and
    directions.
    """

    offsets: Sequence[np.ndarray] | np.ndarray
    loss: np.ndarray
    trace: np.ndarray

    def diverged(self, trained_loss: float, runaway: float) -> bool:
        """Whether the chain left the basin: NaN or infinity anywhere, or a loss risen by more than ``runaway`` nats.

        Offsets that are not finite show in the loss at their draw.
        """
        finite = np.isfinite(self.loss).all() and np.isfinite(self.trace).all()
        return not finite or bool(self.loss.max() - trained_loss > runaway)


def grouped(
    language_model: LanguageModel, components: Sequence[Component], settings: SGLDConfig, length: int, budget: Budget
) -> Iterator[list[ChainKey]]:
    """Chains that advance together: of components that start at the same block and have equally many parameters."""

    def alike(component: Component) -> tuple[int, int]:
        return component.start, size_of(component, language_model.parameters)

    for (_, size), members in groupby(sorted(components, key=alike), key=alike):
        keys = [ChainKey(component, chain) for component in members for chain in range(settings.chains)]
        for part in batches(len(keys), budget.variants(settings.batch_contexts * length, size)):
            yield keys[part]


def stacks_of(keys: Sequence[ChainKey], offsets: torch.Tensor) -> list[Stack]:
    """Rows of ``offsets``, one per chain, as stacks of neighbouring chains of the same component."""
    stacks, begin = [], 0
    for component, members in groupby(keys, key=lambda key: key.component):
        end = begin + len(list(members))
        stacks.append(Stack(component, offsets[begin:end]))
        begin = end
    return stacks


def means_and_slopes(
    tail: Tail, index: torch.Tensor, keys: Sequence[ChainKey], offsets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss of every chain on contexts of its own, ``index`` (chains, batch), and its gradient."""
    with torch.enable_grad():
        leaf = offsets.detach().requires_grad_()
        means = tail.minibatch_means(index, stacks_of(keys, leaf))
        (slopes,) = torch.autograd.grad(means.sum(), leaf)
    return means.detach(), slopes


class MinibatchGradient:
    """Losses and gradients of a group of chains, each on a fresh minibatch of its own."""

    def __init__(
        self, keys: Sequence[ChainKey], tail: Tail, batch: int, generators: Sequence[torch.Generator], budget: Budget
    ) -> None:
        self.keys, self.tail, self.batch, self.generators, self.budget = keys, tail, batch, generators, budget

    def minibatches(self) -> torch.Tensor:
        """Contexts of every chain, (chains, batch)."""
        device = self.tail.tokens.device
        chosen = [
            torch.randint(len(self.tail.tokens), (self.batch,), generator=generator, device=generator.device)
            for generator in self.generators
        ]
        return torch.stack(chosen).to(device)

    def __call__(self, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        index = self.minibatches()
        losses, slopes = offsets.new_empty(len(offsets)), torch.empty_like(offsets)

        def some(begin: int, end: int) -> None:
            part = slice(begin, end)
            losses[part], slopes[part] = means_and_slopes(self.tail, index[part], self.keys[part], offsets[part])

        tokens = index.shape[1] * self.tail.tokens.shape[1]
        self.budget.ranges(len(offsets), lambda: self.budget.variants(tokens, offsets.shape[1]), some)
        return losses, slopes


@torch.no_grad()
def mean_losses(tail: Tail, keys: Sequence[ChainKey], offsets: torch.Tensor, budget: Budget) -> np.ndarray:
    """L of every chain's weights: the mean over the tokens of all contexts, summed in float64."""
    contexts, length = tail.tokens.shape
    sums = torch.zeros(max(1, len(offsets)), dtype=torch.float64, device=tail.tokens.device)

    def some_contexts(first: int, last: int) -> None:
        within = tail.subset(torch.arange(first, last, device=tail.tokens.device))
        found = torch.empty_like(sums)

        def some(begin: int, end: int) -> None:
            stacks = stacks_of(keys[begin:end], offsets[begin:end]) if keys else []
            found[begin:end] = within.losses(stacks).double().sum(dim=(1, 2))

        budget.ranges(len(sums), lambda: budget.variants(within.tokens.numel(), offsets.shape[1]), some)
        sums.add_(found)

    budget.ranges(contexts, lambda: budget.variants(length), some_contexts, "contexts")
    return (sums / (contexts * (length - 1))).cpu().numpy()


def trained_loss(tail: Tail, budget: Budget) -> float:
    """L at the trained weights."""
    return float(mean_losses(tail, [], torch.empty(0, 0), budget)[0])


def loss_at_trained_weights(tail: Tail, budget: Budget) -> float:
    """`trained_loss`, refused if it is no number: no chain could be told from one that diverged."""
    found = trained_loss(tail, budget)
    if not np.isfinite(found):
        raise UserError(
            f"model.path: the loss at the trained weights is {found}; the weights hold NaN, or model.dtype overflows"
        )
    return found


def reference_of(pool: Tail, settings: SGLDConfig) -> Tail:
    """The contexts on which L is taken at every draw: the first of the pool."""
    count = min(settings.reference_contexts, len(pool.tokens))
    return pool.subset(torch.arange(count, device=pool.tokens.device))


class ChainGroup:
    """A group of chains on their way: state, L at the draws so far, and how to go on."""

    def __init__(self, keys: Sequence[ChainKey], pool: Tail, settings: SGLDConfig, budget: Budget) -> None:
        self.keys, self.settings, self.budget = list(keys), settings, budget
        device = pool.tokens.device
        generators = [
            torch.Generator(device).manual_seed(seed_for(settings.seed, key.component.name, key.chain)) for key in keys
        ]
        self.reference = reference_of(pool, settings)
        self.width, self.rows = size_of(keys[0].component, pool.language_model.parameters), settings.draws
        self.langevin = Langevin(settings, self.width, generators, device)
        self.gradient: Gradient = MinibatchGradient(keys, pool, settings.batch_contexts, generators, budget)
        self.loss = np.full((len(keys), settings.draws), np.nan)

    def run(
        self, keep: Callable[[int, np.ndarray], None], checkpoint: Callable[[], None] | None = None
    ) -> torch.Tensor:
        """To the end; ``keep`` receives every draw (chains, parameters) in the precision it is stored in."""

        def kept(index: int, draws: torch.Tensor) -> None:
            stored = draws.to(getattr(torch, self.settings.storage))
            keep(index, stored.cpu().numpy())
            self.loss[:, index] = mean_losses(self.reference, self.keys, stored.float(), self.budget)

        return sample(
            self.langevin, self.gradient, kept, checkpoint=checkpoint, checkpoint_every=self.settings.checkpoint_every
        )

    def state(self) -> dict[str, torch.Tensor]:
        return self.langevin.state() | {"draw_loss": torch.from_numpy(self.loss)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.langevin.restore(state)
        self.loss[:] = state["draw_loss"].numpy()


class Group(Protocol):
    """Draws of several chains on their way: what `ChainGroup` is, and whatever else makes draws."""

    keys: list[ChainKey]
    settings: SGLDConfig
    #: L at the draws, (chains, draws); NaN before they are made.
    loss: np.ndarray
    #: Numbers in a row that is kept; 0 if nothing is kept of a draw but L.
    width: int
    #: Rows that are kept of a chain; there may be several for a draw.
    rows: int

    def run(
        self, keep: Callable[[int, np.ndarray], None], checkpoint: Callable[[], None] | None = None
    ) -> torch.Tensor: ...

    def state(self) -> dict[str, torch.Tensor]: ...

    def restore(self, state: dict[str, torch.Tensor]) -> None: ...


def in_memory(group: Group) -> list[Draws]:
    """Run to the end, with all draws kept in memory: for models that are there already."""
    offsets = np.empty((len(group.keys), group.rows, group.width), group.settings.storage)

    def keep(index: int, draws: np.ndarray) -> None:
        offsets[:, index] = draws

    traces = group.run(keep).numpy()
    return [Draws(*one) for one in zip(offsets, group.loss, traces, strict=True)]


def draw_chains(keys: Sequence[ChainKey], pool: Tail, settings: SGLDConfig, budget: Budget) -> list[Draws]:
    """Chains kept in memory."""
    return in_memory(ChainGroup(keys, pool, settings, budget))
