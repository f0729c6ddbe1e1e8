"""How a module computes when a batch holds many variants of its weights.

A batch of V variants is stacked along the first axis, variant by variant. Modules that hold a perturbed slice get a
forward of their own while `perturbed` lasts: the shared product once for everything, and beside it the small products
of the slices, batched over variants. Everything else in the model is ordinary batched work and is not touched.

    shared W, rows r perturbed:      y[.., r] = x W[r]ᵀ + x Δᵥᵀ        (queries, keys, values of a head)
    shared W, columns c perturbed:   y = x Wᵀ + x[.., c] Δᵥᵀ           (the output projection of a head)
    all of W perturbed:              y = x (W + Δᵥ)ᵀ                   (an MLP, the embedding)

The offsets Δ may ask for a gradient; then it is the gradient of these slices alone that is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from scale.errors import UserError
from scale.model.architecture import Slice
from scale.model.variants import Piece, full_values

#: Parameter -> the modules that hold it and what they call it: a tied matrix is held by two.
Owners = Mapping[str, list[tuple[nn.Module, str]]]


def owners_of(model: nn.Module) -> Owners:
    found: dict[str, list[tuple[nn.Module, str]]] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for module in model.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(names[id(parameter)], []).append((module, key))
    return found


@dataclass(frozen=True)
class Site:
    """A module that holds perturbed parameters, with their pieces by attribute ("weight", "bias", ...)."""

    module: nn.Module
    pieces: dict[str, list[Piece]]

    def spans(self) -> list[tuple[int, int]]:
        """The runs of variants that belong together, in order."""
        return sorted({(piece.first, piece.last) for pieces in self.pieces.values() for piece in pieces})

    def of(self, attribute: str, span: tuple[int, int]) -> list[Piece]:
        return [p for p in self.pieces.get(attribute, []) if (p.first, p.last) == span]


def sites(owners: Owners, pieces: Mapping[str, list[Piece]]) -> list[Site]:
    """Where the touched parameters live."""
    found: dict[int, Site] = {}
    for name, own in pieces.items():
        for module, key in owners[name]:
            found.setdefault(id(module), Site(module, {})).pieces[key] = own
    return list(found.values())


@dataclass(frozen=True)
class Batch:
    """How the leading axis of every activation is made up: ``variants`` times ``contexts`` times, maybe, ``length``."""

    variants: int
    contexts: int
    length: int

    def runs_over(self, tensor: torch.Tensor) -> bool:
        """Whether the leading axis runs over variants."""
        rows = self.variants * self.contexts
        return tensor.ndim > 0 and tensor.shape[0] in (rows, rows * self.length)

    def split(self, tensor: torch.Tensor) -> torch.Tensor:
        """(variants, rest...) of an activation; one that is the same for all contexts (positions) is repeated."""
        if tensor.shape[0] == 1:
            tensor = tensor.expand(self.variants * self.contexts, *tensor.shape[1:])
        if not self.runs_over(tensor):
            raise UserError(
                "model.path: this architecture sends tokens of a batch through different weights (a mixture of "
                "experts?); the parts behind such a choice cannot be components"
            )
        return tensor.reshape(self.variants, -1, *tensor.shape[1:])


def add_at(values: torch.Tensor, added: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """``values`` with ``added`` on a range of the last axis."""
    if added.requires_grad or values.requires_grad:
        return torch.slice_scatter(values, values[..., start:stop] + added, -1, start, stop)
    values[..., start:stop] += added
    return values


def by_span(
    site: Site, variants: int, function: Callable[[slice, tuple[int, int] | None], torch.Tensor]
) -> torch.Tensor:
    """The results of ``function`` for every run of variants, joined; runs that no piece touches included."""
    parts, at = [], 0
    for span in [*site.spans(), (variants, variants)]:
        if span[0] > at:
            parts.append(function(slice(at, span[0]), None))
        if span[1] > span[0]:
            parts.append(function(slice(*span), span))
        at = span[1]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def transposed(where: Slice) -> Slice:
    return where if where.axis is None else Slice(where.parameter, 1 - where.axis, where.start, where.stop)


def linear(site: Site, batch: Batch, flipped: bool, states: torch.Tensor) -> torch.Tensor:
    """A linear layer whose variants differ; ``flipped`` for weights stored (inputs, outputs), as GPT-2's are."""
    module: Any = site.module
    weight, bias = (module.weight.t() if flipped else module.weight), module.bias
    x = batch.split(states).flatten(1, -2)
    everything_whole = all(piece.whole for piece in site.pieces.get("weight", [])) and "weight" in site.pieces
    shared = None if everything_whole else functional.linear(x, weight, bias)

    def run(span: slice, key: tuple[int, int] | None) -> torch.Tensor:
        inputs = x[span]
        output = None if shared is None else shared[span]
        for piece in site.of("weight", key) if key else []:
            values = piece.values.mT if flipped else piece.values
            where = transposed(piece.where) if flipped else piece.where
            if where.axis is None:
                if output is None and weight.dtype == torch.float32:
                    output = products(inputs, weight + values, bias)
                else:  # in lower precision the sum would swallow small offsets
                    base = functional.linear(inputs, weight, bias) if output is None else output
                    output = base + torch.bmm(inputs, values.mT)
            elif where.axis == 0:
                assert output is not None
                output = add_at(output, torch.bmm(inputs, values.mT), where.start, where.stop)
            else:
                assert output is not None
                output = output + torch.bmm(inputs[..., where.start : where.stop], values.mT)
        if output is None:
            output = functional.linear(inputs, weight, bias)
        for piece in site.of("bias", key) if key else []:
            start, stop = (0, output.shape[-1]) if piece.whole else (piece.where.start, piece.where.stop)
            output = add_at(output, piece.values[:, None], start, stop)
        return output

    found = by_span(site, batch.variants, run)
    return found.reshape(*states.shape[:-1], found.shape[-1])


def products(x: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.bmm(x, weights.mT) if bias is None else torch.baddbmm(bias, x, weights.mT)


def embedding(site: Site, batch: Batch, ids: torch.Tensor) -> torch.Tensor:
    """Rows of a table that differs between variants: the shared row, and what is added to it."""
    module: Any = site.module
    index = batch.split(ids).flatten(1)
    shared = functional.embedding(index, module.weight)

    def run(span: slice, key: tuple[int, int] | None) -> torch.Tensor:
        found = shared[span]
        for piece in site.of("weight", key) if key else []:
            assert piece.whole
            count, size, width = piece.values.shape
            rows = index[span] + size * torch.arange(count, device=index.device)[:, None]
            found = found + functional.embedding(rows, piece.values.reshape(count * size, width))
        return found

    return by_span(site, batch.variants, run).reshape(-1, *ids.shape[1:], shared.shape[-1])


def any_module(site: Site, batch: Batch, *inputs: Any, **options: Any) -> torch.Tensor:
    """Any other module (a norm, a table of positions), vectorised over variants with their whole parameters.

    Inputs whose leading axis runs over variants are given out to them, all others are shared.
    """
    given: dict[Any, Any] = {**dict(enumerate(inputs)), **options}
    batched = {key: batch.split(value) for key, value in given.items() if is_batched(batch, value)}

    def call(own: dict[str, torch.Tensor], mine: dict[Any, torch.Tensor]) -> torch.Tensor:
        every = given | mine
        positional = tuple(every[index] for index in range(len(inputs)))
        found: torch.Tensor = functional_call(site.module, own, positional, {key: every[key] for key in options})
        return found

    def run(span: slice, key: tuple[int, int] | None) -> torch.Tensor:
        count = span.stop - span.start
        weights = {
            name: full_values(getattr(site.module, name), site.of(name, key) if key else []).expand(count, *shape)
            for name, shape in ((name, getattr(site.module, name).shape) for name in site.pieces)
        }
        found: torch.Tensor = torch.func.vmap(call)(weights, {k: value[span] for k, value in batched.items()})
        # What is the same for all contexts comes out once: a table of positions, say.
        return found.expand(-1, batch.contexts, *found.shape[2:]) if found.shape[1] == 1 else found

    with plain(site.module):
        return by_span(site, batch.variants, run).flatten(0, 1)


def is_batched(batch: Batch, value: Any) -> bool:
    return isinstance(value, torch.Tensor) and batch.runs_over(value)


@contextmanager
def plain(module: nn.Module) -> Iterator[None]:
    """The module's own forward, for a moment."""
    own = module.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if own is not None:
            module.__dict__["forward"] = own


def batches_variants(module: nn.Module) -> bool:
    """Whether `perturbed` can tell variants apart in this module.

    Not in modules that choose weights by token (experts, routers), nor in those that hold numbers beside their children
    (attention sinks): there variants are evaluated one at a time, with the numbers themselves replaced.
    """
    if type(module) in (nn.Linear, Conv1D) or isinstance(module, nn.Embedding):
        return True
    leaf = next(module.children(), None) is None
    return leaf and all(p is None or p.ndim <= 1 for p in module._parameters.values())


def forward_of(site: Site, batch: Batch) -> Callable[..., torch.Tensor]:
    if type(site.module) is nn.Linear:
        return partial(linear, site, batch, False)
    if type(site.module) is Conv1D:
        return partial(linear, site, batch, True)
    if type(site.module) is nn.Embedding:
        return partial(embedding, site, batch)
    return partial(any_module, site, batch)


@contextmanager
def replaced(site: Site) -> Iterator[None]:
    """Within, the module holds the numbers of the only variant in place of its own."""
    own = {name: site.module._parameters.pop(name) for name in site.pieces}
    try:
        for name, parameter in own.items():
            assert parameter is not None
            site.module.__dict__[name] = full_values(parameter, site.pieces[name])[0]
        yield
    finally:
        for name, parameter in own.items():
            site.module.__dict__.pop(name, None)
            site.module._parameters[name] = parameter


@contextmanager
def own_forward(site: Site, batch: Batch) -> Iterator[None]:
    """Within, the module has a forward that tells variants apart."""
    before = site.module.__dict__.get("forward")
    site.module.__dict__["forward"] = forward_of(site, batch)
    try:
        yield
    finally:
        if before is None:
            del site.module.__dict__["forward"]
        else:
            site.module.__dict__["forward"] = before


@contextmanager
def perturbed(owners: Owners, pieces: Mapping[str, list[Piece]], batch: Batch, leave: nn.Module) -> Iterator[None]:
    """Within, the modules that hold ``pieces`` see a batch of variants; ``leave`` is seen to elsewhere."""
    with ExitStack() as changes:
        for site in sites(owners, pieces):
            if site.module is leave:
                continue
            if batches_variants(site.module):
                changes.enter_context(own_forward(site, batch))
            else:
                assert batch.variants == 1
                changes.enter_context(replaced(site))
        yield
