"""Blocks compiled by torch: their small operations fused, for the blocks whose weights are the trained ones.

A model's blocks run some thirty small operations beside their products (norms, rotary embeddings, activations), each of
which reads and writes all activations. `torch.compile` joins them, forward and backward. Blocks that hold a perturbed
slice or an output held still are left as they are: what differs there differs from call to call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from scale.errors import UserError


class CompiledBlocks:
    """The compiled form of every block, made when it is first run; blocks of one kind share what is compiled."""

    def __init__(self, blocks: Sequence[nn.Module], backend: str | Callable[..., Any] = "inductor") -> None:
        self.forms: list[Any] = [torch.compile(block, backend=backend) for block in blocks]
        self.held = [{id(parameter) for parameter in block.parameters()} for block in blocks]

    def untouched(self, start: int, touched: Collection[nn.Parameter], still: bool) -> Mapping[int, nn.Module]:
        """The compiled forms of the blocks from ``start`` on that hold none of the ``touched`` parameters.

        ``still``: whether outputs of block ``start`` are held still.
        """
        names = {id(parameter) for parameter in touched}
        return {
            index: form
            for index, form in enumerate(self.forms)
            if index >= start + still and self.held[index].isdisjoint(names)
        }


@contextmanager
def compiling_explained() -> Iterator[None]:
    """Within, blocks that torch cannot compile (or a compiler that is missing) are told to the user in one line."""
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"model.compile: torch cannot compile this model's blocks ({reason}); set it to false"
        ) from error
