"""Variants of a model: which slices of its weights differ, and by how much.

A `Stack` is many offsets of one component; its `Piece` is what they add to one slice of one parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from scale.model.architecture import Slice
from scale.model.components import Component


@dataclass(frozen=True)
class Stack:
    """Variants of one component: offsets (variants, parameters) from the trained weights."""

    component: Component
    offsets: torch.Tensor


@dataclass(frozen=True)
class Piece:
    """What some variants, ``first`` to ``last``, add to one slice of a parameter: ``values`` (variants, *shape)."""

    first: int
    last: int
    where: Slice
    values: torch.Tensor

    @property
    def whole(self) -> bool:
        return self.where.axis is None

    def padded(self, tensor: torch.Tensor) -> torch.Tensor:
        """The values at their place in a tensor of the parameter's shape, zero elsewhere: (variants, *shape)."""
        if self.where.axis is None:
            return self.values
        padding = [0, 0] * (tensor.ndim - 1 - self.where.axis)
        after = tensor.shape[self.where.axis] - self.where.stop
        return functional.pad(self.values, [*padding, self.where.start, after])


def slice_shape(where: Slice, tensor: torch.Tensor) -> list[int]:
    shape = list(tensor.shape)
    if where.axis is not None:
        shape[where.axis] = where.stop - where.start
    return shape


def size_of(component: Component, parameters: Mapping[str, torch.Tensor]) -> int:
    """How many parameters a component has."""
    return sum(torch.Size(slice_shape(w, parameters[w.parameter])).numel() for w in component.slices)


def pieces_of(stacks: Sequence[Stack], parameters: Mapping[str, torch.Tensor]) -> dict[str, list[Piece]]:
    """The pieces of every parameter that any of the stacks touches, variants numbered through all stacks."""
    found: dict[str, list[Piece]] = {}
    first = 0
    for stack in stacks:
        last = first + len(stack.offsets)
        shapes = [slice_shape(where, parameters[where.parameter]) for where in stack.component.slices]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        values = stack.offsets.split(sizes, dim=1)
        for where, shape, value in zip(stack.component.slices, shapes, values, strict=True):
            own = value.reshape(last - first, *shape).to(parameters[where.parameter].dtype)
            piece = Piece(first, last, where, own)
            found.setdefault(where.parameter, []).append(piece)
        first = last
    return found


def full_values(tensor: torch.Tensor, pieces: Sequence[Piece]) -> torch.Tensor:
    """The whole parameter of every variant with all its pieces, (variants or 1, *shape)."""
    total = tensor[None]
    for piece in pieces:
        total = total + piece.padded(tensor)
    return total
