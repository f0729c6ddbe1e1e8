"""What belongs to a head, by what the model does: on every architecture of the zoo, and with layouts that are wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch

from scale.model import layouts
from scale.model.architecture import Architecture, read_architecture
from scale.model.layouts import Order, by_group, by_kind, is_norm
from scale.model.slices import Slice, within
from zoo import ZOO, Seen, build, changed, counts, see

LAYER = 1
#: Queries and keys, or what the output projection reads, are normed over all heads at once: every head acts on all.
NORMED_ACROSS_HEADS = {"olmo2", "olmo3", "olmoe", "flex_olmo", "minimax_m2", "bitnet"}
#: With one set of keys and values every order by group or kind is the same.
FUSED = [name for name in ZOO if ZOO[name][0] in layouts.FUSED and "one set" not in name]


def without_norms(model: Any) -> None:
    """Take the norms out of the attention of block `LAYER`."""
    attention = model.get_submodule(read_architecture(model).attention_module(LAYER))
    norms = [name for name, module in attention.named_modules() if is_norm(module)]
    for name in norms:
        attention.set_submodule(name, torch.nn.Identity())


@functools.cache
def subject(name: str) -> tuple[Any, Architecture, Seen]:
    """A model, what is known of it, and what it does unchanged."""
    model = build(name)
    architecture = read_architecture(model)
    if name in NORMED_ACROSS_HEADS:
        without_norms(model)
    return model, architecture, see(model, architecture, LAYER)


def outgoing(architecture: Architecture, pieces: Iterable[Slice]) -> list[Slice]:
    """Those in the output projection."""
    return [piece for piece in pieces if f".{architecture.layout.output}." in piece.parameter]


def incoming(architecture: Architecture, pieces: Iterable[Slice]) -> list[Slice]:
    """Those in the query, key and value projections."""
    leaving = outgoing(architecture, pieces)
    return [piece for piece in pieces if piece not in leaving]


def heads_moved(name: str, pieces: list[Slice]) -> list[int]:
    """The heads whose output differs when ``pieces`` do."""
    model, architecture, before = subject(name)
    with changed(model, pieces):
        after = see(model, architecture, LAYER)
    difference = (after.heads(architecture.heads) - before.heads(architecture.heads)).abs().amax(dim=(0, 1, 3))
    assert ((difference > 1e-3) | (difference < 1e-6)).all(), difference
    return [head for head in range(architecture.heads) if difference[head] > 1e-3]


def wrong_heads(name: str, slices: Callable[[int, int], tuple[Slice, ...]]) -> list[int]:
    """The heads whose rows, by ``slices``, do not move that head and no other."""
    architecture = subject(name)[1]
    every = range(architecture.heads)
    return [h for h in every if heads_moved(name, incoming(architecture, slices(LAYER, h))) != [h]]


@pytest.mark.parametrize("name", ZOO)
def test_the_rows_of_a_head_change_what_it_gives_and_no_other_head(name: str) -> None:
    assert wrong_heads(name, subject(name)[1].head_slices) == []


@pytest.mark.parametrize("name", ZOO)
def test_the_rows_of_a_group_change_its_heads_and_no_others(name: str) -> None:
    architecture = subject(name)[1]
    share = architecture.heads // architecture.groups
    for group in range(architecture.groups):
        moved = heads_moved(name, incoming(architecture, architecture.group_slices(LAYER, group)))
        assert moved == list(range(group * share, (group + 1) * share))


@pytest.mark.parametrize("name", ZOO)
def test_without_its_columns_a_head_adds_nothing_to_the_stream(name: str) -> None:
    """The output projection writes then what it would have written had that head given zeros."""
    model, architecture, before = subject(name)
    projection = model.get_submodule(f"{architecture.attention_module(LAYER)}.{architecture.layout.output}")
    for head in range(architecture.heads):
        silent = before.heads(architecture.heads).clone()
        silent[..., head, :] = 0
        with changed(model, outgoing(architecture, architecture.head_slices(LAYER, head)), factor=0):
            written = see(model, architecture, LAYER).written
        assert torch.allclose(written, projection(silent.flatten(-2)), atol=1e-5)
        assert not torch.allclose(written, before.written, atol=1e-3)


@pytest.mark.parametrize("name", ZOO)
def test_twice_the_values_give_twice_the_output(name: str) -> None:
    """Queries and keys have no such rows: this tells the three kinds of lane apart."""
    model, architecture, before = subject(name)
    share = architecture.heads // architecture.groups
    for group in range(architecture.groups):
        values = within(architecture.attention_module(LAYER), architecture.layout.of([("value", group)]))
        expected = before.heads(architecture.heads).clone()
        expected[..., group * share : (group + 1) * share, :] *= 2
        with changed(model, values, factor=2):
            found = see(model, architecture, LAYER).heads(architecture.heads)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ZOO)
def test_groups_divide_the_projections_between_them_without_rest(name: str) -> None:
    """Where no head shares its keys and values, a group is a head."""
    model, architecture, _ = subject(name)
    cuts = [architecture.group_slices(LAYER, group) for group in range(architecture.groups)]
    counted = counts(model, [piece for cut in cuts for piece in cut])
    assert all(bool((count == 1).all()) for count in counted.values())
    if not architecture.layout.grouped:
        heads = [architecture.head_slices(LAYER, head) for head in range(architecture.heads)]
        assert [set(head) for head in heads] == [set(group) for group in cuts]


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama", "opt", "falcon in groups"])
def test_a_slice_that_is_off_by_one_head_is_noticed(name: str) -> None:
    """The control of the tests above: the same oracle, the slices of the next head."""
    architecture = subject(name)[1]

    def off_by_one(layer: int, head: int) -> tuple[Slice, ...]:
        return architecture.head_slices(layer, (head + 1) % architecture.heads)

    assert wrong_heads(name, off_by_one) == list(range(architecture.heads))


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "phi3"])
def test_a_slice_that_begins_half_a_head_too_late_is_noticed(name: str) -> None:
    architecture = subject(name)[1]

    def late(layer: int, head: int) -> tuple[Slice, ...]:
        pieces = architecture.head_slices(layer, head)
        half = (pieces[0].stop - pieces[0].start) // 2
        return tuple(replace(piece, start=piece.start + half, stop=piece.stop + half) for piece in pieces)

    inner = range(architecture.heads - 1)  # the last slice would leave the matrix
    assert all(heads_moved(name, incoming(architecture, late(LAYER, head))) != [head] for head in inner)


@pytest.mark.parametrize("name", FUSED)
def test_any_other_order_of_a_fused_projection_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, architecture, _ = subject(name)
    kind = ZOO[name][0]
    module, right = layouts.FUSED[kind]
    others = [order for order in (by_group, by_kind) if not same_to_heads(right, order, architecture)]
    assert others
    for wrong in others:
        monkeypatch.setitem(layouts.FUSED, kind, (module, wrong))
        assert wrong_heads(name, read_architecture(model).head_slices) != []


def same_to_heads(one: Order, other: Order, architecture: Architecture) -> bool:
    """Whether two orders give every head the same rows; which of them are keys no other head can tell."""
    orders = [order(architecture.heads, architecture.groups) for order in (one, other)]
    kinds = architecture.layout.grouped
    return len({tuple(lane if kinds else lane[1] for lane in order) for order in orders}) == 1


@pytest.mark.parametrize("name", sorted(NORMED_ACROSS_HEADS))
def test_norms_over_all_heads_make_every_head_act_on_all(name: str) -> None:
    """Why those norms are taken out above: the rows are a head's own all the same."""
    model = build(name)
    architecture = read_architecture(model)
    before = see(model, architecture, LAYER).heads(architecture.heads)
    with changed(model, incoming(architecture, architecture.group_slices(LAYER, 0))):
        after = see(model, architecture, LAYER).heads(architecture.heads)
    assert (after - before)[..., -1, :].abs().max() > 1e-3
