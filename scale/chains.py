"""Running the chains of one component inside a language model, and measuring L at every draw.

Works in memory, on a model that is already loaded; `scale.draws` is the stage that writes the results.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from scale.components import Component, Slots
from scale.config import SGLDConfig
from scale.forward import Tail
from scale.language_model import LanguageModel
from scale.seeds import seed_for
from scale.sgld import Langevin, sample


@dataclass(frozen=True)
class Draws:
    """One chain's draws: offsets (draws, parameters) from the trained weights, L at each, and the minibatch trace."""

    offsets: np.ndarray
    loss: np.ndarray
    trace: np.ndarray

    def diverged(self, trained_loss: float, runaway: float) -> bool:
        """Whether the chain left the basin: NaN or infinity anywhere, or a loss risen by more than ``runaway`` nats."""
        finite = np.isfinite(self.offsets).all() and np.isfinite(self.loss).all() and np.isfinite(self.trace).all()
        return not finite or bool(self.loss.max() - trained_loss > runaway)


class Perturbed:
    """A component's weights that can be set to a draw and are put back when the `with` block ends."""

    def __init__(self, language_model: LanguageModel, component: Component) -> None:
        self.slots = Slots(language_model.model, component)
        self.trained = self.slots.read()

    def set_offset(self, offset: np.ndarray) -> None:
        added = torch.from_numpy(np.array(offset)).to(self.trained.device, self.trained.dtype)
        self.slots.write(self.trained + added)

    def __enter__(self) -> Perturbed:
        return self

    def __exit__(self, *exception: object) -> None:
        self.slots.write(self.trained)


@contextmanager
def differentiable(slots: Slots) -> Iterator[None]:
    for parameter in slots.tensors:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in slots.tensors:
            parameter.requires_grad_(False)
            parameter.grad = None


class MinibatchGradient:
    """Loss and gradient of one component at the offset of one chain, on a fresh minibatch at every call."""

    def __init__(self, perturbed: Perturbed, tail: Tail, batch: int, generator: torch.Generator) -> None:
        self.slots, self.trained = perturbed.slots, perturbed.trained
        self.tail, self.batch, self.generator = tail, batch, generator

    def __call__(self, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.randint(len(self.tail.tokens), (self.batch,), generator=self.generator)
        self.slots.write(self.trained + offsets[0])
        for parameter in self.slots.tensors:
            parameter.grad = None
        with torch.enable_grad():
            loss = self.tail.subset(index).losses().mean()
            loss.backward()
        return loss.detach()[None], self.slots.gradient()[None]


@torch.no_grad()
def mean_loss(tail: Tail, batch: int = 32) -> float:
    """L: the mean over tokens, summed in float64."""
    index = torch.arange(len(tail.tokens))
    total = sum(tail.subset(part).losses().double().sum().item() for part in index.split(batch))
    return total / (tail.tokens.shape[0] * (tail.tokens.shape[1] - 1))


def draw_chain(
    language_model: LanguageModel, component: Component, pool: Tail, chain: int, settings: SGLDConfig
) -> Draws:
    """Sample one chain of ``component`` on the contexts of ``pool``; L is taken on the first of them."""
    generator = torch.Generator().manual_seed(seed_for(settings.seed, component.name, chain))
    reference = pool.subset(torch.arange(min(settings.reference_contexts, len(pool.tokens))))
    with Perturbed(language_model, component) as perturbed:
        trained, kept = perturbed.trained, []
        langevin = Langevin(settings, trained.numel(), [generator], trained.device, trained.dtype)
        with differentiable(perturbed.slots):
            gradient = MinibatchGradient(perturbed, pool, settings.batch_contexts, generator)
            trace = sample(langevin, gradient, lambda index, draw: kept.append(draw[0].to("cpu", copy=True)))
        offsets = torch.stack(kept).numpy().astype(settings.storage)
        losses = []
        for offset in offsets:
            perturbed.set_offset(offset)
            losses.append(mean_loss(reference))
    return Draws(offsets, np.array(losses), trace[0].numpy())
