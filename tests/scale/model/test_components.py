"""Which weights belong to which component, and what the component can change."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from conftest import make_model
from scale.errors import UserError
from scale.model.architecture import Architecture, read_architecture
from scale.model.components import GROUPS, Component, Slots, all_components, catalogue, full, select
from scale.model.layouts import is_norm
from scale.model.slices import Slice
from zoo import ZOO, Seen, build, changed, counts, see

#: Without rotary positions these add the same to all scores of a query, which the softmax takes away again.
OF_KEYS = (".k_proj.bias", ".Wk.bias")


@functools.cache
def subject(name: str) -> tuple[Any, Architecture, Seen]:
    """A model, what is known of it, and what it does unchanged."""
    model = build(name)
    architecture = read_architecture(model)
    return model, architecture, see(model, architecture)


def chosen(name: str, *names: str) -> list[Component]:
    model, architecture, _ = subject(name)
    return select(model, architecture, names)


def refusal(name: str, *names: str) -> str:
    with pytest.raises(UserError) as error:
        chosen(name, *names)
    assert "\n" not in str(error.value)
    return str(error.value)


def held(name: str, component: str) -> dict[str, torch.Tensor]:
    return counts(subject(name)[0], chosen(name, component)[0].slices)


@pytest.mark.parametrize("name", ZOO)
def test_what_starts_at_a_block_changes_it_and_nothing_below(name: str) -> None:
    """Components, and the parameters of the middle block and those outside all blocks one by one."""
    model, architecture, before = subject(name)
    names = list(catalogue(model, architecture))
    names += [n for n in full_names(model) if architecture.layer_of(n) in (None, 1) and not n.endswith(OF_KEYS)]
    for component in chosen(name, *names):
        with changed(model, component.slices):
            after = see(model, architecture)
        pairs = zip([*before.states, before.logits], [*after.states, after.logits], strict=True)
        same = [torch.equal(old, new) for old, new in pairs]
        assert same[: component.start] == [True] * component.start, component.name
        assert not any(same[component.start :]), component.name


def full_names(model: Any) -> list[str]:
    return [piece.parameter for piece in full(model).slices]


def test_a_start_that_is_too_late_would_be_noticed() -> None:
    """The control of the test above: block 1 counted as block 2 leaves no state below it unchanged."""
    model, architecture, before = subject("gpt_neox")
    with changed(model, chosen("gpt_neox", "l1h0")[0].slices):
        after = see(model, architecture)
    assert [torch.equal(*pair) for pair in zip(before.states, after.states, strict=True)] == [True, False, False]


@pytest.mark.parametrize("name", ZOO)
def test_components_divide_the_model(name: str) -> None:
    """Heads, MLPs, embedding and unembedding are disjoint; of a block, only norms are in neither attention nor MLP."""
    model, architecture, _ = subject(name)
    counted = counts(model, [piece for part in all_components(model, architecture) for piece in part.slices])
    assert max(int(count.max()) for count in counted.values()) == 1
    for layer in range(architecture.layers):
        attention, mlp, block = (set(held(name, f"l{layer}{part}")) for part in (" attn", " mlp", ""))
        heads = {piece.parameter for h in range(architecture.heads) for piece in architecture.head_slices(layer, h)}
        assert heads <= attention
        assert not attention & mlp
        assert attention | mlp <= block
        assert all(in_a_norm(model, parameter) for parameter in block - attention - mlp)
    outside = {parameter for parameter in full_names(model) if architecture.layer_of(parameter) is None}
    inside = {piece.parameter for part in chosen(name, "layers") for piece in part.slices}
    assert outside | inside == set(full_names(model))


def in_a_norm(model: Any, parameter: str) -> bool:
    return is_norm(model.get_submodule(parameter.rpartition(".")[0]))


@pytest.mark.parametrize("name", ["afmoe", "ernie4_5_moe"])
def test_what_no_gradient_reaches_is_in_no_component(name: str) -> None:
    model, architecture, _ = subject(name)
    fresh = build(name).requires_grad_(True)
    fresh(torch.arange(12)[None], labels=torch.arange(12)[None]).loss.backward()
    unreached = {n for n, parameter in fresh.named_parameters() if parameter.grad is None}
    assert unreached
    parts = [full(model), *catalogue(model, architecture).values()]
    assert not unreached & {piece.parameter for part in parts for piece in part.slices}
    assert refusal(name, sorted(unreached)[0]).endswith("no gradient reaches it; leave it out")


@pytest.mark.parametrize("name", ["gpt2", "gemma", "opt", "ctrl"])
def test_tied_embeddings_are_one_component_that_acts_at_both_ends(name: str) -> None:
    architecture = subject(name)[1]
    assert [part.name for part in chosen(name, "all") if "embed" in part.name] == ["embed"]
    assert chosen(name, "embed")[0].start == 0
    assert refusal(name, "heads", "unembed").endswith(
        "'unembed' is the same matrix as the embedding in this model; name 'embed', which acts at both ends"
    )
    other = f"{architecture.output}.weight"
    assert refusal(name, other).endswith(f"{other!r} is tied to {architecture.embedding}; name that")


def test_the_unembedding_has_its_bias() -> None:
    assert list(held("gptj", "unembed")) == ["lm_head.weight", "lm_head.bias"]


def test_with_tied_matrices_the_bias_of_the_unembedding_is_a_parameter_of_its_own() -> None:
    assert chosen("ctrl", "lm_head.bias")[0].start == 3


def test_reading_what_was_written() -> None:
    model = make_model("gpt2")
    for component in [*all_components(model, read_architecture(model)), full(model)]:
        slots = Slots(model, component)
        values = torch.randn(len(slots.read()), generator=torch.Generator().manual_seed(1))
        slots.write(values)
        assert torch.equal(slots.read(), values)


def test_groups_of_components_are_in_the_models_order_and_none_comes_twice() -> None:
    names = [part.name for part in chosen("gpt_neox", "mlps", "l1h0", "all", "l1h0")]
    assert names[:6] == ["embed", "l0h0", "l0h1", "l0h2", "l0h3", "l0 mlp"]
    assert names[-1] == "unembed"
    assert len(names) == len(set(names)) == 2 + 3 * 5
    every = [part.name for part in chosen("llama", *GROUPS)]
    assert every[1:11] == ["l0", "l0 attn", "l0g0", "l0g1", "l0h0", "l0h1", "l0h2", "l0h3", "l0 mlp", "l1"]


def test_parameters_and_unions_come_after_in_an_order_that_does_not_depend_on_the_users() -> None:
    high, low = "gpt_neox.layers.2.mlp.dense_h_to_4h.weight", "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    found = chosen("gpt_neox", "l1h1 + l1h0", high, "l0h0", low, "l1h0+l1h1")
    assert [part.name for part in found] == ["l0h0", low, high, "l1h0 + l1h1"]


def test_what_components_are() -> None:
    parameter = "gpt_neox.layers.2.mlp.dense_h_to_4h.weight"
    described = {
        part.name: (part.kind, part.layer, part.head, part.start)
        for part in [
            *chosen("gpt_neox", "l1h2", "l1 attn", "l2", "unembed", parameter, "l1h0 + l2h0", "l2h0 + l2 mlp"),
            *chosen("llama", "l1g1"),
        ]
    }
    assert described == {
        "l1h2": ("head", 1, 2, 1),
        "l1 attn": ("attn", 1, None, 1),
        "l2": ("layer", 2, None, 2),
        "unembed": ("unembed", None, None, 3),
        parameter: ("parameter", 2, None, 2),
        "l1h0 + l2h0": ("union", None, None, 1),
        "l2h0 + l2 mlp": ("union", 2, None, 2),
        "l1g1": ("group", 1, None, 1),
    }


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gpt_neox", ["l1h0", "l1h1"]),
        ("gpt_neox", ["l1h0", "l1h2", "l1h1"]),
        ("gpt_neox", ["l1h3", "l1 attn"]),
        ("gpt_neox", ["l1", "l1h3", "l1 mlp", "embed"]),
        ("gpt2", ["l1h0", "l1h2"]),
        ("llama", ["l1g0", "l1h0", "l1h3"]),
        ("llama", ["l1h0", "l2h0", "model.layers.1.self_attn.q_proj.weight"]),
    ],
)
def test_a_union_holds_what_its_parts_hold_and_nothing_twice(name: str, parts: list[str]) -> None:
    model, _, _ = subject(name)
    found = held(name, " + ".join(parts))
    expected = counts(model, [piece for part in chosen(name, *parts) for piece in part.slices])
    assert {parameter: count.tolist() for parameter, count in found.items()} == {
        parameter: count.clamp(max=1).tolist() for parameter, count in expected.items()
    }
    assert list(found) == [parameter for parameter in full_names(model) if parameter in expected]


def test_the_order_in_which_a_union_is_written_does_not_matter() -> None:
    assert chosen("gpt_neox", "l2h0 + l1 mlp + l1 mlp") == chosen("gpt_neox", "l1 mlp + l2h0")
    assert chosen("gpt_neox", "l1h0 + l1h0") == chosen("gpt_neox", "l1h0")


def test_touching_slices_are_one() -> None:
    """Every slice costs a copy at every step of a chain."""
    attention = "gpt_neox.layers.1.attention"
    assert chosen("gpt_neox", "l1h1")[0].slices == (
        Slice(f"{attention}.query_key_value.weight", 0, 24, 48),
        Slice(f"{attention}.query_key_value.bias", 0, 24, 48),
        Slice(f"{attention}.dense.weight", 1, 8, 16),
    )
    assert chosen("gpt_neox", "l1h1 + l1h0")[0].slices == (
        Slice(f"{attention}.query_key_value.weight", 0, 0, 48),
        Slice(f"{attention}.query_key_value.bias", 0, 0, 48),
        Slice(f"{attention}.dense.weight", 1, 0, 16),
    )


OFFER = (
    "; this model has embed, l0 to l2, 'l0 attn' to 'l2 attn', l0h0 to l2h3, 'l0 mlp' to 'l2 mlp', unembed, "
    "its parameters by name, and the groups heads, attns, mlps, layers, all"
)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("l9h0", "is out of range"),
        ("l0h4", "is out of range"),
        ("l3 mlp", "is out of range"),
        ("l3", "is out of range"),
        ("l3 attn", "is out of range"),
        ("l0g4", "is out of range"),
        ("l0g1", "is l0h1: no head shares its keys and values"),
        ("l0h", "is not a component"),
        ("l00h1", "is not a component"),
        ("", "is not a component"),
        ("mlp", "is not a component"),
        (
            "gpt_neox.layers.0.mlp.dense_h_to_4h.wieght",
            "is not a component (did you mean gpt_neox.layers.0.mlp.dense_h_to_4h.weight?)",
        ),
    ],
)
def test_what_does_not_exist_is_said_with_what_does(name: str, reason: str) -> None:
    assert refusal("gpt_neox", "heads", name) == f"sgld.components: {name!r} {reason}{OFFER}"


def test_models_with_grouped_queries_offer_their_groups() -> None:
    assert "l0g0 to l2g1, l0h0 to l2h3" in refusal("llama", "l0g2")
    assert "and the groups heads, groups, attns, mlps, layers, all" in refusal("llama", "l0g2")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["groups"], "'groups' is empty in this model, which has embed, l0 to l2"),
        (["full"], "'full' is sampled in every run; leave it out"),
        (["full + l0h0"], "'full' is sampled in every run; leave it out"),
        (["heads + l0 mlp"], "'heads' is a group; + joins single components"),
        (["l0h0 + l0h9"], "'l0h9' is out of range; this model has"),
        (["l0h0 +"], "'' is not a component; this model has"),
    ],
)
def test_other_mistakes(names: list[str], reason: str) -> None:
    assert refusal("gpt_neox", *names).startswith(f"sgld.components: {reason}")


def test_an_mlp_without_parameters_is_no_component() -> None:
    model = build("llama")
    for block in model.model.layers:
        block.mlp = torch.nn.Identity()
    architecture = read_architecture(model)
    assert not any("mlp" in part.name for part in select(model, architecture, ["all"]))
    with pytest.raises(UserError, match="'l0 mlp' has no parameters; this model has"):
        select(model, architecture, ["l0 mlp"])
    with pytest.raises(UserError, match="'mlps' is empty in this model"):
        select(model, architecture, ["mlps"])
