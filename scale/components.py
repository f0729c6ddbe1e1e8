"""Components: the small parts of a model whose response is measured, each a set of slices of its parameters.

Names: ``l3h1`` (head 1 of layer 3), ``l3 mlp``, ``embed``, ``unembed``, ``full`` (every parameter).
Groups: ``heads``, ``mlps``, ``all`` (heads, MLPs, embedding and unembedding).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from scale.architecture import Architecture, Slice
from scale.errors import UserError

FULL = "full"
GROUPS = {"heads": ("head",), "mlps": ("mlp",), "all": ("head", "mlp", "embed", "unembed")}


@dataclass(frozen=True)
class Component:
    """A named part of the model.

    ``start`` is the first block whose output the component can change: blocks below it see trained weights only. The
    unembedding starts after the last block.
    """

    name: str
    kind: str
    layer: int | None
    head: int | None
    start: int
    slices: tuple[Slice, ...]


def head(architecture: Architecture, layer: int, index: int) -> Component:
    return Component(f"l{layer}h{index}", "head", layer, index, layer, architecture.head_slices(layer, index))


def mlp(model: nn.Module, architecture: Architecture, layer: int) -> Component:
    prefix = f"{architecture.block(layer)}.{architecture.mlp}."
    names = [name for name, _ in model.named_parameters() if name.startswith(prefix)]
    return Component(f"l{layer} mlp", "mlp", layer, None, layer, tuple(Slice(name) for name in names))


def full(model: nn.Module) -> Component:
    return Component(FULL, FULL, None, None, 0, tuple(Slice(name) for name, _ in model.named_parameters()))


def all_components(model: nn.Module, architecture: Architecture) -> list[Component]:
    """Embedding, then heads and MLP of every layer from the bottom up, then the unembedding."""
    layers = range(architecture.layers)
    found = [Component("embed", "embed", None, None, 0, (Slice(architecture.embedding),))]
    for layer in layers:
        found += [head(architecture, layer, index) for index in range(architecture.heads)]
        found.append(mlp(model, architecture, layer))
    if architecture.unembedding != architecture.embedding:  # tied embeddings are one matrix and one component: embed
        unembedding = (Slice(architecture.unembedding),)
        found.append(Component("unembed", "unembed", None, None, architecture.layers, unembedding))
    return found


def select(model: nn.Module, architecture: Architecture, names: Sequence[str]) -> list[Component]:
    """The components that ``names`` (single names and groups) stand for, in the model's order, none twice."""
    available = all_components(model, architecture)
    wanted: set[str] = set()
    for name in names:
        if name in GROUPS:
            wanted |= {c.name for c in available if c.kind in GROUPS[name]}
        elif name in {c.name for c in available}:
            wanted.add(name)
        else:
            raise UserError(unknown_component(name, architecture))
    chosen = [c for c in available if c.name in wanted]
    empty = next((c for c in chosen if not c.slices), None)
    if empty is not None:
        raise UserError(f"sgld.components: {empty.name!r} has no parameters in this model; leave it out")
    return chosen


def unknown_component(name: str, architecture: Architecture) -> str:
    last_layer, last_head = architecture.layers - 1, architecture.heads - 1
    reason = "is out of range" if re.fullmatch(r"l\d+(h\d+| mlp)", name) else "is not a component"
    return (
        f"sgld.components: {name!r} {reason}; this model has l0h0 to l{last_layer}h{last_head}, "
        f"'l0 mlp' to 'l{last_layer} mlp', embed, unembed, and the groups {', '.join(GROUPS)}"
    )


class Slots:
    """A component's weights inside a model, read and written as one flat vector."""

    def __init__(self, model: nn.Module, component: Component) -> None:
        self.parameters = dict(model.named_parameters())
        self.slices = component.slices
        self.sizes = [view.numel() for view in self.views()]

    def view(self, piece: Slice, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if piece.axis is None else tensor.narrow(piece.axis, piece.start, piece.stop - piece.start)

    def views(self) -> list[torch.Tensor]:
        return [self.view(piece, self.parameters[piece.parameter].detach()) for piece in self.slices]

    @property
    def tensors(self) -> list[nn.Parameter]:
        """The parameters that hold the slices, each once."""
        return [self.parameters[name] for name in dict.fromkeys(piece.parameter for piece in self.slices)]

    def read(self) -> torch.Tensor:
        return torch.cat([view.reshape(-1) for view in self.views()])

    def write(self, flat: torch.Tensor) -> None:
        for view, values in zip(self.views(), flat.split(self.sizes), strict=True):
            view.copy_(values.view(view.shape))

    def gradient(self) -> torch.Tensor:
        """The gradient at the slices, after a backward pass through `tensors`."""
        pieces = []
        for piece in self.slices:
            whole = self.parameters[piece.parameter].grad
            assert whole is not None, f"no gradient reached {piece.parameter}"
            pieces.append(self.view(piece, whole).reshape(-1))
        return torch.cat(pieces)
