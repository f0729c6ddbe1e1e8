"""Forward passes that start in the middle: the hidden state below a block is computed once and injected again.

A component in block l leaves everything below l unchanged, so its draws need only the blocks from l upwards
(`Tail`), fed with the hidden states that `prefix` computed once. This holds for any decoder of transformers whose
blocks are a `ModuleList` that hands on one hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from scale.language_model import LanguageModel

#: Positions whose logits are held at once; bounds memory at (this x vocabulary) numbers.
LOGIT_ROWS = 4096


class Inject(nn.Module):
    """Stands in for the blocks below: whatever comes in, the stored hidden state goes out."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.hidden


def block_list(language_model: LanguageModel) -> tuple[nn.Module, str, nn.ModuleList]:
    """The module that owns the blocks, the attribute's name, and the blocks."""
    parent, _, name = language_model.architecture.blocks.rpartition(".")
    owner = language_model.model.get_submodule(parent)
    blocks = getattr(owner, name)
    assert isinstance(blocks, nn.ModuleList)
    return owner, name, blocks


@contextmanager
def from_block(language_model: LanguageModel, start: int, hidden: torch.Tensor) -> Iterator[None]:
    """Within, the model is `Inject` followed by its blocks from ``start`` on."""
    owner, name, blocks = block_list(language_model)
    config: Any = language_model.model.config
    depth = config.num_hidden_layers
    shortened = nn.ModuleList([Inject(hidden), *blocks[start:]])
    setattr(owner, name, shortened)
    # Several architectures walk their blocks only up to this number.
    config.num_hidden_layers = len(shortened)
    try:
        yield
    finally:
        setattr(owner, name, blocks)
        config.num_hidden_layers = depth


def body(language_model: LanguageModel, tokens: torch.Tensor) -> torch.Tensor:
    """Hidden states after the final norm, (contexts, T, width)."""
    base = language_model.model.base_model
    return base(input_ids=tokens, use_cache=False).last_hidden_state  # type: ignore[operator]


@torch.no_grad()
def residual_stream(language_model: LanguageModel, tokens: torch.Tensor, layers: list[int]) -> list[torch.Tensor]:
    """The residual stream that the given blocks read; the number of blocks itself stands for the top."""
    _, _, blocks = block_list(language_model)
    caught: dict[int, torch.Tensor] = {}

    def catch_input(layer: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            caught[layer] = args[0] if args else kwargs["hidden_states"]

        return hook

    def catch_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        caught[len(blocks)] = output if isinstance(output, torch.Tensor) else output[0]

    hooks = [
        blocks[layer].register_forward_pre_hook(catch_input(layer), with_kwargs=True)
        for layer in layers
        if layer < len(blocks)
    ]
    if len(blocks) in layers:
        hooks.append(blocks[-1].register_forward_hook(catch_output))
    try:
        body(language_model, tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return [caught[layer] for layer in layers]


def prefix(language_model: LanguageModel, tokens: torch.Tensor, start: int, batch: int = 64) -> torch.Tensor:
    """Hidden states that block ``start`` reads, (contexts, T, width); embedded tokens (``start`` 0) are not cached."""
    if start == 0:
        return torch.empty(len(tokens), 0)
    return torch.cat([residual_stream(language_model, part, [start])[0] for part in tokens.split(batch)])


def position_losses(language_model: LanguageModel, hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Loss in nats of every predicted token, (contexts, T - 1); logits exist for `LOGIT_ROWS` positions at once."""
    unembed = language_model.model.get_output_embeddings()  # type: ignore[operator]
    states, targets = hidden[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
    losses = [
        functional.cross_entropy(unembed(part).float(), target, reduction="none")
        for part, target in zip(states.split(LOGIT_ROWS), targets.split(LOGIT_ROWS), strict=True)
    ]
    return torch.cat(losses).view(len(tokens), -1)


class Tail:
    """Token losses of fixed contexts as a function of the weights from block ``start`` on."""

    def __init__(
        self, language_model: LanguageModel, tokens: torch.Tensor, start: int, hidden: torch.Tensor | None = None
    ) -> None:
        self.language_model, self.tokens, self.start = language_model, tokens, start
        self.hidden = prefix(language_model, tokens, start) if hidden is None else hidden

    def losses(self) -> torch.Tensor:
        """(contexts, T - 1), differentiable in the weights that ask for a gradient."""
        if self.start == 0:
            return position_losses(self.language_model, body(self.language_model, self.tokens), self.tokens)
        with from_block(self.language_model, self.start, self.hidden):
            return position_losses(self.language_model, body(self.language_model, self.tokens), self.tokens)

    def subset(self, index: torch.Tensor) -> Tail:
        """The same for some of the contexts, sharing their hidden states."""
        return Tail(self.language_model, self.tokens[index], self.start, self.hidden[index])
