"""Components: the parts of a model whose response is measured, each a set of slices of its parameters.

    ``l3h1``         head 1 of block 3: the rows of its queries and the columns that read its output; the rows of
                     its keys and values too, unless it shares them with other heads
    ``l3g1``         with grouped queries, group 1: its keys and values, and the queries and output of its heads
    ``l3 attn``      the attention module, with what its heads share: output bias, norms of queries and keys
    ``l3 mlp``       the MLP; of a mixture of experts, the router and all experts
    ``l3``           the block, with its norms
    ``embed``        the token embedding alone
    ``unembed``      the matrix that makes logits, and its bias; tied to the embedding it is no component of its
                     own: there is one matrix, which acts at both ends and is called ``embed``
    ``l3h0 + l3h1``  a union, which is one component; what its parts have in common counts once
    ``full``         every parameter

Any other name is that of a single parameter, as the model calls it. Groups of components: ``heads``, ``groups``,
``attns``, ``mlps``, ``layers``, and ``all`` (heads, MLPs, ``embed`` and ``unembed``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from scale.errors import UserError
from scale.model.architecture import Architecture
from scale.model.slices import Slice, merged

FULL = "full"
GROUPS = {
    "heads": ("head",),
    "groups": ("group",),
    "attns": ("attn",),
    "mlps": ("mlp",),
    "layers": ("layer",),
    "all": ("head", "mlp", "embed", "unembed"),
}
UNION = "+"
#: Numbers that only decide which experts are used: no gradient reaches them, and they are in no component.
UNTRAINED = (".expert_bias", ".e_score_correction_bias")


@dataclass(frozen=True)
class Component:
    """A named part of the model.

    ``start`` is the first block whose output the component can change: blocks below it see trained weights only. What
    comes after the last block starts at the number of blocks.
    """

    name: str
    kind: str
    layer: int | None
    head: int | None
    start: int
    slices: tuple[Slice, ...]


def parameter_names(model: nn.Module) -> list[str]:
    """All parameters in the model's order, a tied matrix once."""
    return [name for name, _ in model.named_parameters() if not name.endswith(UNTRAINED)]


def inside(modules: Iterable[str], names: Iterable[str]) -> tuple[Slice, ...]:
    """The parameters of ``modules``, whole."""
    prefixes = tuple(f"{module}." for module in modules)
    return whole(name for name in names if name.startswith(prefixes))


def whole(names: Iterable[str]) -> tuple[Slice, ...]:
    return tuple(Slice(name) for name in names)


def full(model: nn.Module) -> Component:
    return Component(FULL, FULL, None, None, 0, whole(parameter_names(model)))


def of_layer(architecture: Architecture, layer: int, names: Sequence[str]) -> list[Component]:
    """The components inside one block, whose parameters are ``names``; the larger before the smaller."""

    def component(name: str, kind: str, slices: tuple[Slice, ...], head: int | None = None) -> Component:
        return Component(f"l{layer}{name}", kind, layer, head, layer, slices)

    groups = range(architecture.groups if architecture.layout.grouped else 0)
    return [
        component("", "layer", whole(names)),
        component(" attn", "attn", inside([architecture.attention_module(layer)], names)),
        *(component(f"g{g}", "group", architecture.group_slices(layer, g)) for g in groups),
        *(component(f"h{h}", "head", architecture.head_slices(layer, h), h) for h in range(architecture.heads)),
        component(" mlp", "mlp", inside(architecture.mlp_modules(layer), names)),
    ]


def catalogue(model: nn.Module, architecture: Architecture) -> dict[str, Component]:
    """Every component that has a name of its own, from the embedding up to the unembedding."""
    by_layer: dict[int | None, list[str]] = {}
    for name in parameter_names(model):
        by_layer.setdefault(architecture.layer_of(name), []).append(name)
    found = [Component("embed", "embed", None, None, 0, whole([architecture.embedding]))]
    for layer in range(architecture.layers):
        found += of_layer(architecture, layer, by_layer[layer])
    if not architecture.tied:
        unembedding = inside([architecture.output], by_layer[None])
        found.append(Component("unembed", "unembed", None, None, architecture.layers, unembedding))
    return {component.name: component for component in found if component.slices}


def all_components(model: nn.Module, architecture: Architecture) -> list[Component]:
    """Embedding, then heads and MLP of every layer from the bottom up, then the unembedding."""
    return [c for c in catalogue(model, architecture).values() if c.kind in GROUPS["all"]]


def select(model: nn.Module, architecture: Architecture, names: Sequence[str]) -> list[Component]:
    """The components that ``names`` (single names, unions and groups) stand for, none twice.

    They come in the model's order, then single parameters in the model's order, then unions in the order given.
    """
    known = Known(model, architecture)
    wanted: dict[str, Component] = {}
    for name in names:
        found = known.group(name) if name in GROUPS else [known.union(name) if UNION in name else known.single(name)]
        wanted |= {component.name: component for component in found}
    return sorted(wanted.values(), key=known.position)


class Known:
    """The components that one model has, looked up by name; what it does not have is a mistake of the user's."""

    def __init__(self, model: nn.Module, architecture: Architecture) -> None:
        self.model, self.architecture = model, architecture
        self.named = catalogue(model, architecture)
        self.parameters = {name: index for index, name in enumerate(parameter_names(model))}
        self.order = {name: index for index, name in enumerate([*self.named, *self.parameters])}

    def position(self, component: Component) -> int:
        return self.order.get(component.name, len(self.order))

    def group(self, name: str) -> list[Component]:
        found = [component for component in self.named.values() if component.kind in GROUPS[name]]
        if not found:
            raise UserError(f"sgld.components: {name!r} is empty in this model, which has {self.offer()}")
        return found

    def single(self, name: str) -> Component:
        if name in self.named:
            return self.named[name]
        if name in self.parameters:
            layer = self.architecture.layer_of(name)
            return Component(name, "parameter", layer, None, self.architecture.start_of(name), whole([name]))
        raise UserError(f"sgld.components: {name!r} {self.why_absent(name)}")

    def union(self, name: str) -> Component:
        members = {part.name: part for part in map(self.single, map(str.strip, name.split(UNION)))}
        parts = sorted(members.values(), key=self.position)
        if len(parts) == 1:
            return parts[0]
        layers = {part.layer for part in parts}
        slices = [piece for part in parts for piece in part.slices]
        return Component(
            name=f" {UNION} ".join(part.name for part in parts),
            kind="union",
            layer=layers.pop() if len(layers) == 1 else None,
            head=None,
            start=min(part.start for part in parts),
            slices=merged(sorted(slices, key=lambda piece: self.parameters[piece.parameter])),
        )

    def why_absent(self, name: str) -> str:
        """The end of a sentence that begins with the name, and what there is instead."""
        if name == "unembed":
            return "is the same matrix as the embedding in this model; name 'embed', which acts at both ends"
        if name == FULL:
            return "is sampled in every run; leave it out"
        if name in dict(self.model.named_parameters(remove_duplicate=False)):
            if name.endswith(UNTRAINED):
                return "only decides which experts are used, and no gradient reaches it; leave it out"
            return f"is tied to {self.architecture.embedding}; name that"
        if name in GROUPS:
            return f"is a group; {UNION} joins single components"
        return f"{self.what_is_wrong(name)}; this model has {self.offer()}"

    def what_is_wrong(self, name: str) -> str:
        number = r"(0|[1-9]\d*)"
        form = re.fullmatch(rf"l{number}(?:h{number}|g{number}| mlp| attn)?", name)
        if form is None:
            close = difflib.get_close_matches(name, self.parameters, 1) if "." in name else []
            return f"is not a component (did you mean {close[0]}?)" if close else "is not a component"
        layer, head, group = (int(index or 0) for index in form.groups())
        limits = self.architecture.layers, self.architecture.heads, self.architecture.groups
        if any(index >= limit for index, limit in zip((layer, head, group), limits, strict=True)):
            return "is out of range"
        return f"is l{layer}h{group}: no head shares its keys and values" if form[3] else "has no parameters"

    def offer(self) -> str:
        """The names that exist, from the first to the last of each kind."""
        kinds: dict[str, list[str]] = {}
        for component in self.named.values():
            quoted = repr(component.name) if " " in component.name else component.name
            kinds.setdefault(component.kind, []).append(quoted)
        spans = [names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" for names in kinds.values()]
        groups = [name for name, wanted in GROUPS.items() if set(wanted) & set(kinds)]
        return f"{', '.join(spans)}, its parameters by name, and the groups {', '.join(groups)}"


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
