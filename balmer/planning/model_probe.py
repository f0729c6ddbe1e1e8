"""How fast a device evaluates and differentiates a model's own blocks, and its unembedding: a few blocks, no weights.

The blocks are those of the configuration with weights drawn at random; what is timed is what stages do with them
(`scale.model.tail`, `scale.draws.chains`), on as many tokens at once as they would take, or fewer where that would take
long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from balmer.planning.extent import Extent
from scale.draws.chains import ChainKey, means_and_slopes
from scale.model.batches import PARAMETERS, Budget
from scale.model.components import Component, select
from scale.model.language_model import LOADING, LanguageModel, load_config
from scale.model.losses import mean_losses, token_losses
from scale.model.operations import block_backward, block_forward, unembedding_forward
from scale.model.tail import Tail
from scale.model.variants import Stack, size_of
from scale.stopwatch import seconds_of

#: Blocks of the probe, its longest context, and the operations of one call, at most.
BLOCKS, LONGEST, OPERATIONS = 3, 512, {"cpu": 2e10, "cuda": 2e13}
#: A part of a difference that is less than this share of the whole has drowned in noise.
LEAST_SHARE = 0.1


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """The caller's go on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def small_model(extent: Extent, device: torch.device) -> LanguageModel:
    """The configuration's model, a few blocks deep."""
    from transformers import AutoModelForCausalLM

    config: Any = load_config(extent.config.model, weights=False)
    depth = min(BLOCKS, extent.shape.layers)
    for name in ("layer_types", "attention_layers"):  # what is said of every block
        if isinstance(getattr(config, name, None), list):
            setattr(config, name, getattr(config, name)[:depth])
    config.num_hidden_layers = depth
    with LOADING, own_random_numbers():
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, extent.config.model.dtype))
    return LanguageModel.wrap(model.to(device))


def tokens_per_call(extent: Extent, device: torch.device, factor: int) -> int:
    """Tokens that a call may take: the budget's, or as many as keep it short; ``factor`` for gradients."""
    one = BLOCKS * sum(block_forward(extent.shape, extent.length).values()) + unembedding_forward(extent.shape)
    budget = Budget.of(device, extent.config.model.batch_tokens).tokens
    return int(min(budget, OPERATIONS[device.type] / (factor * one)))


def layout(tokens: int, contexts: int, length: int, size: int) -> tuple[int, int]:
    """Variants and contexts of a call: at least one of each, whole contexts first."""
    contexts = max(1, min(contexts, tokens // length))
    variants = max(1, min(tokens // (contexts * length), PARAMETERS // size))
    return variants, contexts


class Bench:
    """The small model, and what is done with it."""

    def __init__(self, extent: Extent, device: torch.device) -> None:
        self.extent, self.device = extent, device
        self.model = small_model(extent, device)
        self.length = min(extent.length, LONGEST)
        self.blocks = self.model.architecture.layers

    def component(self) -> Component:
        """One of the lowest block, of the kind that there are most of."""
        heads = self.extent.components > 2 * (self.extent.shape.layers + 1)
        return select(self.model.model, self.model.architecture, ["heads" if heads else "mlps"])[0]

    def tokens(self, contexts: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (contexts, self.length)
        return torch.randint(self.extent.shape.vocabulary, shape, generator=generator).to(self.device)

    def offsets(self, component: Component, variants: int) -> torch.Tensor:
        return torch.full((variants, size_of(component, self.model.parameters)), 1e-4, device=self.device)

    def rows(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the unembedding reads, and targets."""
        generator, weight = torch.Generator().manual_seed(0), self.model.unembedding.weight
        states = torch.randn(count, self.extent.shape.width, generator=generator).to(weight)
        return states, self.tokens(-(-count // self.length)).flatten()[:count]

    def split(self, whole: float, losses: float, tokens: int, block: float, unembedding: float) -> tuple[float, float]:
        """Operations per second of blocks and of unembedding, from what both and the second take together."""
        through = max(whole - losses, LEAST_SHARE * whole)
        return tokens * self.blocks * block / through, tokens * unembedding / losses

    def forward(self) -> tuple[float, float]:
        component, config = self.component(), self.extent.config
        size = size_of(component, self.model.parameters)
        variants, contexts = layout(
            tokens_per_call(self.extent, self.device, 1), config.corpus.contexts_per_document, self.length, size
        )
        variants = min(variants, max(1, config.probe.draws_per_document))
        tail = Tail(self.model, self.tokens(contexts), 0, None)
        stack = Stack(component, self.offsets(component, variants))
        whole = seconds_of(lambda: tail.losses([stack]), self.device)
        states, targets = self.rows(variants * contexts * self.length)
        losses = seconds_of(lambda: token_losses(states, targets, self.model.unembedding), self.device)
        block = sum(block_forward(self.extent.shape, self.length).values())
        return self.split(whole, losses, len(states), block, unembedding_forward(self.extent.shape))

    def gradient(self) -> tuple[float, float]:
        component, sgld = self.component(), self.extent.config.sgld
        size = size_of(component, self.model.parameters)
        batch = sgld.batch_contexts if sgld.estimator == "plain" else sgld.reference_contexts
        variants, contexts = layout(tokens_per_call(self.extent, self.device, 3), batch, self.length, size)
        variants = min(variants, sgld.chains * self.extent.shape.heads)
        tail = Tail(self.model, self.tokens(contexts), 0, None)
        keys = [ChainKey(component, chain) for chain in range(variants)]
        index, offsets = (
            torch.arange(contexts, device=self.device).repeat(variants, 1),
            self.offsets(component, variants),
        )
        whole = seconds_of(lambda: means_and_slopes(tail, index, keys, offsets), self.device)
        states, targets = self.rows(variants * contexts * self.length)

        def losses() -> None:
            with torch.enable_grad():
                leaf = states[None].detach().requires_grad_()
                mean_losses(leaf, targets[None], self.model.unembedding).sum().backward()

        forward, backward = (make(self.extent.shape, self.length) for make in (block_forward, block_backward))
        block = sum(forward.values()) + sum(backward.values())
        took = seconds_of(losses, self.device)
        return self.split(whole, took, len(states), block, 2 * unembedding_forward(self.extent.shape))


def model_rates(extent: Extent, device: torch.device) -> dict[str, float]:
    """Of blocks and unembedding, forwards alone and with gradients."""
    bench = Bench(extent, device)
    blocks, unembedding = bench.forward()
    block_gradients, unembedding_gradients = bench.gradient()
    return {
        "blocks": blocks,
        "block gradients": block_gradients,
        "unembedding": unembedding,
        "unembedding gradients": unembedding_gradients,
    }
