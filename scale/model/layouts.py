"""Which rows and columns of an attention module's parameters belong to which head.

Every projection is cut along one axis into *lanes* of equal length: the queries of one head, the keys or the values of
one group of heads, and, on the reading side of the output projection, the output of one head. Modules differ in how the
lanes are spread over parameters and in which order they follow one another: that is a *layout*. Separate projections
have one order only and are known by their names. The order of a fused projection cannot be read from its shape, so it
is looked up by architecture and never guessed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from scale.model.slices import Slice, merged

#: ("query", head), ("key", group), ("value", group) or ("output", head).
Lane = tuple[str, int]
#: The lanes of a fused projection, from its first row to its last, for a number of heads and of groups.
Order = Callable[[int, int], list[Lane]]


class StructureError(Exception):
    """Why a model's structure is not understood; `read_architecture` tells the user."""


def by_group(heads: int, groups: int) -> list[Lane]:
    """The queries of the group's heads, then their keys, then their values; then the next group.

    Where every head has keys and values of its own, this is query, key, value, head by head.
    """
    share = heads // groups
    return [
        lane
        for group in range(groups)
        for lane in [
            *(("query", head) for head in range(group * share, (group + 1) * share)),
            ("key", group),
            ("value", group),
        ]
    ]


def by_kind(heads: int, groups: int) -> list[Lane]:
    """All queries, then all keys, then all values."""
    return [*lanes("query", heads), *lanes("key", groups), *lanes("value", groups)]


def by_quarter(heads: int, groups: int) -> list[Lane]:
    """Four parts, as CodeGen was cut for four accelerators: each holds queries, values and keys, in this order."""
    quarter = heads // 4
    return [
        (kind, head)
        for part in range(4)
        for kind in ("query", "value", "key")
        for head in range(part * quarter, (part + 1) * quarter)
    ]


def lanes(kind: str, count: int) -> list[Lane]:
    return [(kind, index) for index in range(count)]


#: Query, key and value projections that are modules of their own.
SEPARATE = (("q_proj", "k_proj", "v_proj"), ("Wq", "Wk", "Wv"))
OUTPUT = ("o_proj", "out_proj", "dense", "c_proj")
#: By `model_type`: the projection that computes queries, keys and values at once, and the order of its lanes.
FUSED: dict[str, tuple[str, Order]] = {
    "bloom": ("query_key_value", by_group),
    "codegen": ("qkv_proj", by_quarter),
    "dbrx": ("Wqkv", by_kind),
    "falcon": ("query_key_value", by_group),
    "gpt2": ("c_attn", by_kind),
    "gpt_bigcode": ("c_attn", by_group),
    "gpt_neox": ("query_key_value", by_group),
    "gpt_neox_japanese": ("query_key_value", by_group),
    "mpt": ("Wqkv", by_kind),
    "openai-gpt": ("c_attn", by_kind),
    "persimmon": ("query_key_value", by_group),
    "phi3": ("qkv_proj", by_kind),
}
#: By `model_type`: what else an attention module has for every head, in the order of the heads.
PER_HEAD: dict[str, str] = {
    "afmoe": "gate_proj",
    "flint": "sinks",
    "gpt_oss": "sinks",
    "granite_swa": "sinks",
    "granitemoe_swa": "sinks",
}
#: By `model_type`: what an attention module has beside its heads and norms, and shares among the heads.
SHARED: dict[str, tuple[str, ...]] = {"gpt_neox_japanese": ("dense_bias",)}


@dataclass(frozen=True)
class Heads:
    """The heads of one attention module.

    ``groups`` counts the heads' sets of keys and values; it equals ``heads`` where none is shared. ``pieces`` holds for
    every lane its slices, named within the module, and ``output`` the name of the output projection.
    """

    heads: int
    groups: int
    width: int
    output: str
    pieces: tuple[tuple[Lane, Slice], ...]

    @property
    def grouped(self) -> bool:
        return self.groups < self.heads

    def of(self, wanted: Sequence[Lane]) -> tuple[Slice, ...]:
        return tuple(piece for lane in wanted for piece in self.by_lane[lane])

    @functools.cached_property
    def by_lane(self) -> dict[Lane, list[Slice]]:
        found: dict[Lane, list[Slice]] = {}
        for lane, piece in self.pieces:
            found.setdefault(lane, []).append(piece)
        return found

    def head(self, index: int) -> tuple[Slice, ...]:
        """What only this head uses: queries and output, and its keys and values unless other heads share them."""
        own = [] if self.grouped else [("key", index), ("value", index)]
        return merged(self.of([("query", index), *own, ("output", index)]))

    def group(self, index: int) -> tuple[Slice, ...]:
        """Keys and values of a group, with the queries and output of its heads."""
        share = self.heads // self.groups
        queries, outputs = (
            [(kind, head) for head in range(index * share, (index + 1) * share)] for kind in ("query", "output")
        )
        return merged(self.of([*queries, ("key", index), ("value", index), *outputs]))


def transposed(projection: nn.Module) -> bool:
    """GPT-2's `Conv1D` keeps its weight as (in, out)."""
    return type(projection).__name__ == "Conv1D"


def is_matrix(module: object) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Module) and transposed(module))


def sizes(projection: nn.Module) -> tuple[int, int]:
    """Lengths of what a projection reads and of what it writes."""
    weight = projection.weight
    assert isinstance(weight, torch.Tensor)
    rows, columns = weight.shape
    return (rows, columns) if transposed(projection) else (columns, rows)


def cut(parameter: str, axis: int, length: int, order: Sequence[Lane]) -> Iterator[tuple[Lane, Slice]]:
    """``parameter`` in equal slices along ``axis``, one for each lane."""
    if length % len(order):
        raise StructureError(f"{parameter} cannot be cut into {len(order)} equal parts")
    size = length // len(order)
    for index, lane in enumerate(order):
        yield lane, Slice(parameter, axis, index * size, (index + 1) * size)


def cut_output_side(name: str, projection: nn.Module, order: Sequence[Lane]) -> Iterator[tuple[Lane, Slice]]:
    """What a projection writes: the rows of its weight and its bias."""
    length = sizes(projection)[1]
    yield from cut(f"{name}.weight", int(transposed(projection)), length, order)
    if projection.bias is not None:
        yield from cut(f"{name}.bias", 0, length, order)


def cut_input_side(name: str, projection: nn.Module, order: Sequence[Lane]) -> Iterator[tuple[Lane, Slice]]:
    """What a projection reads: the columns of its weight. Its bias belongs to no head."""
    yield from cut(f"{name}.weight", 1 - int(transposed(projection)), sizes(projection)[0], order)


def projections(module: nn.Module, model_type: str) -> tuple[str, ...]:
    """The names of a module's query, key and value projections, separate or fused; empty if it is no attention."""
    fused = [(FUSED[model_type][0],)] if model_type in FUSED else []
    for names in [*SEPARATE, *fused]:
        if all(is_matrix(getattr(module, name, None)) for name in names):
            return names
    return ()


def read_heads(module: nn.Module, model_type: str, heads: int) -> Heads:
    """The layout of an attention module that has `projections`."""
    names = projections(module, model_type)
    output = next((name for name in OUTPUT if is_matrix(getattr(module, name, None))), None)
    if output is None:
        raise StructureError(f"its attention has no output projection called {', '.join(OUTPUT)}")
    read, width = sizes(module.get_submodule(output))
    if read % heads:
        raise StructureError(f"{output} reads {read} numbers, which are not {heads} heads of equal size")
    if len(names) == 1:
        groups, pieces = read_fused(module, names[0], FUSED[model_type][1], heads, read // heads)
    else:
        groups, pieces = read_separate(module, names, heads, read // heads)
    if not 0 < groups <= heads or heads % groups:
        raise StructureError(f"{heads} heads cannot share {groups} sets of keys and values evenly")
    pieces += cut_input_side(output, module.get_submodule(output), lanes("output", heads))
    pieces += read_per_head(module, model_type, heads)
    check_remaining(module, {*(piece.parameter for _, piece in pieces), f"{output}.bias"}, model_type)
    return Heads(heads, groups, width, output, tuple(pieces))


def read_separate(
    module: nn.Module, names: tuple[str, ...], heads: int, size: int
) -> tuple[int, list[tuple[Lane, Slice]]]:
    """Queries and keys of one size, values of another (``size``, which the output projection reads of each head)."""
    query, key, value = (module.get_submodule(name) for name in names)
    lengths = [sizes(projection)[1] for projection in (query, key, value)]
    groups = lengths[2] // size
    if lengths[2] != groups * size or lengths[0] * groups != lengths[1] * heads:
        raise StructureError(f"{', '.join(names)} write {lengths} numbers, which are not {heads} heads of one size")
    pieces: list[tuple[Lane, Slice]] = []
    for kind, name, count in zip(("query", "key", "value"), names, (heads, groups, groups), strict=True):
        pieces += cut_output_side(name, module.get_submodule(name), lanes(kind, count))
    return groups, pieces


def read_fused(
    module: nn.Module, name: str, order: Order, heads: int, size: int
) -> tuple[int, list[tuple[Lane, Slice]]]:
    """``size`` numbers for every head's queries and every group's keys and values."""
    projection = module.get_submodule(name)
    written = sizes(projection)[1]
    groups, rest = divmod(written - heads * size, 2 * size)
    if rest or groups < 1 or (order is by_quarter and (groups != heads or heads % 4)):
        raise StructureError(f"{name} writes {written} numbers, which are not {heads} heads of {size}")
    return groups, list(cut_output_side(name, projection, order(heads, groups)))


def read_per_head(module: nn.Module, model_type: str, heads: int) -> Iterator[tuple[Lane, Slice]]:
    if model_type not in PER_HEAD:
        return
    name = PER_HEAD[model_type]
    found = getattr(module, name)
    if isinstance(found, nn.Parameter):
        yield from cut(name, 0, len(found), lanes("query", heads))
    else:
        yield from cut_output_side(name, found, lanes("query", heads))


def is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


def check_remaining(module: nn.Module, taken: set[str], model_type: str) -> None:
    """Beside the heads there may be norms; anything else could be a head's without our knowing."""
    for name, _ in module.named_parameters():
        owner = module.get_submodule(name.rpartition(".")[0])
        if name not in taken and not is_norm(owner) and name not in SHARED.get(model_type, ()):
            raise StructureError(f"its attention has {name}, which Balmer does not know")
