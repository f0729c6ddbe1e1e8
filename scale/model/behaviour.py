"""What is found out about a model by running it on a few tokens, and what is refused when it does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scale.errors import UserError
from scale.model.architecture import Architecture
from scale.model.unembedding import Unembedding

TOKENS = 8


@dataclass(frozen=True)
class Behaviour:
    """How a model's blocks behave.

    Args:
        blocks_return_tuples: Whether a block gives its hidden state in a tuple.
        parallel: Whether the MLP reads what the attention reads, not what it gives.
        tuples: For attentions and MLPs that give tuples or lists, by module: one as they give it. Blocks may differ.
    """

    blocks_return_tuples: bool
    parallel: bool
    tuples: dict[str, Any]


def first_of(output: Any) -> torch.Tensor:
    """The hidden state in what a module gives: some give it alone, some in a tuple."""
    found: torch.Tensor = output[0] if isinstance(output, tuple | list) else output
    return found


class Watch:
    """Sees what goes through the first block, and what the parts of all give; can silence the first attention."""

    def __init__(self, model: nn.Module, architecture: Architecture) -> None:
        self.outputs: dict[str, Any] = {}
        self.parts: dict[str, Any] = {}
        self.mlp_input: torch.Tensor | None = None
        self.silent = False
        block = model.get_submodule(architecture.block(0))
        attention = model.get_submodule(architecture.attention_module(0))
        self.hooks = [
            block.register_forward_hook(self.keep("")),
            attention.register_forward_hook(self.silence(architecture.attention)),
        ]
        for name, place in zip(architecture.mlp, architecture.mlp_modules(0), strict=True):
            module = model.get_submodule(place)
            self.hooks += [
                module.register_forward_hook(self.keep(name)),
                module.register_forward_pre_hook(self.look, with_kwargs=True),
            ]
        for layer in range(architecture.layers):
            for place in (architecture.attention_module(layer), *architecture.mlp_modules(layer)):
                self.hooks.append(model.get_submodule(place).register_forward_hook(self.keep_part(place)))

    def keep(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self.outputs[name] = output

        return hook

    def keep_part(self, place: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self.parts[place] = output

        return hook

    def silence(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            self.outputs[name] = output
            if not self.silent:
                return None
            zeros = torch.zeros_like(first_of(output))
            return type(output)([zeros, *output[1:]]) if isinstance(output, tuple | list) else zeros

        return hook

    def look(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.mlp_input = (args[0] if args else next(iter(kwargs.values()))).clone()

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()


def body_of(model: nn.Module, architecture: Architecture) -> nn.Module:
    """The module that owns the blocks: from token ids to the hidden states that are unembedded."""
    return model.get_submodule(architecture.blocks.rpartition(".")[0])


@torch.no_grad()
def observe(model: nn.Module, architecture: Architecture, unembedding: Unembedding) -> Behaviour:
    """Run the model on a few tokens. Its logits must be what `Unembedding` says."""
    ids = torch.arange(TOKENS, device=unembedding.weight.device)[None] % len(unembedding.weight)
    watch, body = Watch(model, architecture), body_of(model, architecture)
    try:
        expected = model(input_ids=ids, use_cache=False).logits.float()
        states = body(input_ids=ids, use_cache=False).last_hidden_state
        seen, parts, read = dict(watch.outputs), dict(watch.parts), watch.mlp_input
        watch.silent = True
        body(input_ids=ids, use_cache=False)
        read_without = watch.mlp_input
    finally:
        watch.remove()
    compare(model, unembedding.logits(states), expected)
    assert read is not None
    assert read_without is not None
    whole = all(first_of(output).shape[:2] == ids.shape for output in seen.values())
    return Behaviour(
        blocks_return_tuples=isinstance(seen[""], tuple | list),
        parallel=whole and len(architecture.mlp) == 1 and torch.equal(read, read_without),
        tuples={place: output for place, output in parts.items() if isinstance(output, tuple | list)},
    )


def compare(model: nn.Module, ours: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = 1e-3 if next(model.parameters()).dtype == torch.float32 else 5e-2
    if ours.shape != expected.shape or not torch.allclose(ours, expected, rtol=tolerance, atol=tolerance):
        kind: Any = getattr(model.config, "model_type", type(model).__name__)
        raise UserError(f"model.path: how {kind!r} forms its logits is not known to Balmer; take another architecture")
