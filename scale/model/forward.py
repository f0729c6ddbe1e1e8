"""Forward passes that start in the middle: the hidden state below a block is computed once and injected again.

Blocks below the start are replaced, at their places in the list, by stand-ins that hand on the stored hidden state; so
whatever a model does by a block's index (masks, attention of different kinds) stays as it is. This holds for any
decoder of transformers whose blocks are a `ModuleList` that hands on one hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from scale.model.batches import Budget
from scale.model.behaviour import body_of, first_of
from scale.model.language_model import LanguageModel


class StandIn(nn.Module):
    """In place of a block: whatever comes in, the stored hidden state goes out. Other attributes are the block's."""

    def __init__(self, block: nn.Module, hidden: torch.Tensor, as_tuple: bool) -> None:
        super().__init__()
        self.__dict__["block"] = block  # not a submodule: its weights are not ours
        self.hidden, self.as_tuple = hidden, as_tuple

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor | tuple[torch.Tensor]:
        return (self.hidden,) if self.as_tuple else self.hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["block"], name)


def block_list(language_model: LanguageModel) -> tuple[nn.Module, str, nn.ModuleList]:
    """The module that owns the blocks, the attribute's name, and the blocks."""
    parent, _, name = language_model.architecture.blocks.rpartition(".")
    owner = language_model.model.get_submodule(parent)
    blocks = getattr(owner, name)
    assert isinstance(blocks, nn.ModuleList)
    return owner, name, blocks


@contextmanager
def replaced_blocks(language_model: LanguageModel, replace: Callable[[int, nn.Module], nn.Module]) -> Iterator[None]:
    owner, name, blocks = block_list(language_model)
    setattr(owner, name, nn.ModuleList([replace(index, block) for index, block in enumerate(blocks)]))
    try:
        yield
    finally:
        setattr(owner, name, blocks)


def from_block(language_model: LanguageModel, start: int, hidden: torch.Tensor) -> Any:
    """Within, the blocks below ``start`` are stand-ins that hand on ``hidden``."""
    as_tuple = language_model.behaviour.blocks_return_tuples

    def replace(index: int, block: nn.Module) -> nn.Module:
        return StandIn(block, hidden, as_tuple) if index < start else block

    return replaced_blocks(language_model, replace)


def body(language_model: LanguageModel, tokens: torch.Tensor) -> torch.Tensor:
    """Hidden states after the final norm, (contexts, T, width)."""
    found: torch.Tensor = body_of(language_model.model, language_model.architecture)(
        input_ids=tokens, use_cache=False
    ).last_hidden_state
    return found


class Reached(Exception):  # noqa: N818 - a signal, not an error
    """Raised by a hook once everything that was asked for has been seen."""


@contextmanager
def stream_seen(
    language_model: LanguageModel,
    layers: Sequence[int],
    see: Callable[[int, torch.Tensor], torch.Tensor | None],
) -> Iterator[None]:
    """Within, ``see`` is shown the residual stream that the given blocks read, and may give them another.

    The number of blocks itself stands for the top, where nothing is given back.
    """
    _, _, blocks = block_list(language_model)

    def at_input(layer: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = see(layer, args[0] if args else kwargs["hidden_states"])
            if given is None:
                return None
            return ((given, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": given})

        return hook

    def at_top(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        see(len(blocks), first_of(output))

    below = [layer for layer in layers if layer < len(blocks)]
    hooks = [blocks[layer].register_forward_pre_hook(at_input(layer), with_kwargs=True) for layer in below]
    if len(blocks) in layers:
        hooks.append(blocks[-1].register_forward_hook(at_top))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def residual_stream(language_model: LanguageModel, tokens: torch.Tensor, layers: Sequence[int]) -> list[torch.Tensor]:
    """The residual stream that the given blocks read; the number of blocks itself stands for the top.

    Nothing above the highest of them is computed.
    """
    caught: dict[int, torch.Tensor] = {}

    def see(layer: int, hidden: torch.Tensor) -> None:
        caught[layer] = hidden
        if layer == max(layers):
            raise Reached

    with stream_seen(language_model, layers, see), suppress(Reached):
        body(language_model, tokens)
    return [caught[layer] for layer in layers]


def streams(
    language_model: LanguageModel, tokens: torch.Tensor, starts: Sequence[int], budget: Budget | None = None
) -> dict[int, torch.Tensor | None]:
    """Hidden states that each block of ``starts`` reads, (contexts, T, width), from one pass; None for block 0.

    Block 0 reads the embedded tokens, which its components may change: it starts from the tokens themselves.
    """
    found: dict[int, torch.Tensor | None] = {start: None for start in starts}
    layers = sorted(start for start in found if start > 0)
    if layers:
        parts: list[list[torch.Tensor]] = []

        def some(begin: int, end: int) -> None:
            parts.append(residual_stream(language_model, tokens[begin:end], layers))

        held = budget or Budget.of(tokens.device)
        held.ranges(len(tokens), lambda: held.variants(tokens.shape[1]), some, "contexts")
        found |= {layer: torch.cat([part[i] for part in parts]) for i, layer in enumerate(layers)}
    return found
