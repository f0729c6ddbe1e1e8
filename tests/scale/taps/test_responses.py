"""First-order responses: against the whole derivative where the column is all there is, and against autograd."""

import numpy as np
import pytest
import torch

import zoo
from conftest import VOCABULARY, make_model
from scale.config import SGLDConfig
from scale.draws.chains import ChainKey
from scale.model.batches import Budget
from scale.model.components import select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack, pieces_of, size_of
from scale.taps.columns import columns
from scale.taps.mean_directions import apart, mean_directions
from scale.taps.responses import BELOW, Direction, Reach, places, responses

TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (2, 9)))
BUDGET = Budget(10_000)
STEP = 1e-2
NAMES = ["embed", "l0h0", "l1h1", "l1 mlp", "l2 attn", "l2", "unembed", "l0h1 + l2 mlp"]


def directions_of(model: LanguageModel, names: list[str]) -> list[Direction]:
    generator = torch.Generator().manual_seed(1)
    by_name = {c.name: c for c in select(model.model, model.architecture, names)}
    chosen = [by_name[name] for name in names]
    return [Direction(c, torch.randn(size_of(c, model.parameters), generator=generator)) for c in chosen]


def found(
    model: LanguageModel, directions: list[Direction], tokens: torch.Tensor = TOKENS, reach: Reach = "column"
) -> torch.Tensor:
    whole = columns(model, tokens, range(model.architecture.layers + 1))
    return responses(model, tokens, whole, directions, STEP, BUDGET, reach)


def whole_derivative(model: LanguageModel, direction: Direction, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    """-v̄ᵀ∇l_t through all of the model, (contexts, T - 1)."""
    losses = Tail.at(model, tokens, 0).losses([direction.both_sides(STEP)])
    return -(losses[0] - losses[1]) / (2 * STEP) * direction.length


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2", "llama"])
def test_above_all_attention_a_response_is_the_whole_derivative(kind: str) -> None:
    """What the last block gives reaches a loss along its own column alone."""
    model = LanguageModel.wrap(make_model(kind))
    names = [name for name in ("l2h0", "l2 attn", "l2 mlp", "l2", "unembed") if name != "unembed" or kind != "gpt2"]
    given = directions_of(model, names)
    ours = found(model, given)
    for index, direction in enumerate(given):
        expected = whole_derivative(model, direction)
        assert torch.allclose(ours[..., index], expected, rtol=2e-2, atol=2e-2 * float(expected.abs().max()))
        assert expected.abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2", "llama"])
def test_through_the_model_every_response_is_the_whole_derivative(kind: str) -> None:
    """Of a component in several places, of tied embeddings, and of the unembedding, too; columns alone are far off."""
    model = LanguageModel.wrap(make_model(kind))
    given = directions_of(model, [name for name in NAMES if name != "unembed" or kind != "gpt2"])
    ours, own = found(model, given, reach="model"), found(model, given)
    for index, direction in enumerate(given):
        expected = whole_derivative(model, direction)
        size = float(expected.abs().max())
        assert torch.allclose(ours[..., index], expected, rtol=2e-2, atol=2e-2 * size), direction.component.name
        if direction.component.start == 0 and direction.component.name != "unembed":
            assert (own[..., index] - expected).abs().max() > 0.05 * size, direction.component.name


def test_of_two_tokens_the_first_is_all_there_is() -> None:
    """With one position before the loss, all that is left out is what that position's own keys and values carry: with
    no weight on values above, nothing."""
    model = LanguageModel.wrap(make_model("gpt_neox"))
    for layer in (1, 2):
        attention = model.model.get_submodule(model.architecture.attention_module(layer))
        attention.query_key_value.weight.data.zero_()
        attention.query_key_value.bias.data.zero_()
    given = directions_of(model, ["embed", "l0h0", "l0 mlp"])
    # The values of block 0 read the embedding, too: only what comes after that block's attention is exact.
    ours, tokens = found(model, given, TOKENS[:, :2]), TOKENS[:, :2]
    for index in (1, 2):
        assert torch.allclose(ours[..., index], whole_derivative(model, given[index], tokens), rtol=2e-2, atol=2e-3)
    assert not torch.allclose(ours[..., 0], whole_derivative(model, given[0], tokens), rtol=2e-2, atol=2e-3)


def test_a_union_responds_as_the_sum_of_its_parts() -> None:
    model = LanguageModel.wrap(make_model("gpt_neox"))
    union, *parts = directions_of(model, ["l0h1 + l2 mlp", "l0h1", "l2 mlp"])
    sizes = [len(part.values) for part in parts]
    by_name = {where: values for where, values in zip(union.component.slices, split(model, union), strict=True)}
    own = [Direction(part.component, torch.cat([by_name[where] for where in part.component.slices])) for part in parts]
    assert [len(part.values) for part in own] == sizes
    together = found(model, [union])[..., 0]
    assert torch.allclose(together, found(model, own).sum(dim=-1), rtol=1e-2, atol=1e-3)


def split(model: LanguageModel, direction: Direction) -> list[torch.Tensor]:
    pieces = pieces_of([Stack(direction.component, direction.values[None])], model.parameters)
    by_slice = {piece.where: piece.values.flatten() for own in pieces.values() for piece in own}
    return [by_slice[where] for where in direction.component.slices]


def test_a_response_knows_nothing_of_later_tokens_nor_of_its_company() -> None:
    model = LanguageModel.wrap(make_model("llama"))
    given = directions_of(model, ["l0h0", "l1 mlp"])
    changed = TOKENS.clone()
    changed[:, 6] = (changed[:, 6] + 1) % VOCABULARY
    ours = found(model, given)
    moved = (ours - found(model, given, changed)).abs().amax(dim=(0, 2)) > 1e-4
    assert moved.tolist() == [False] * 5 + [True] * 3
    assert torch.allclose(ours[1:], found(model, given, TOKENS[1:]), atol=1e-4)
    alone = torch.cat([found(model, [one]) for one in given], dim=-1)
    assert torch.allclose(ours, alone, atol=1e-4)


def test_where_components_act() -> None:
    model = LanguageModel.wrap(make_model("gpt_neox"))
    acts = {c.name: places(model, c) for c in select(model.model, model.architecture, NAMES)}
    assert acts["embed"] == {BELOW}
    assert acts["unembed"] == {3}
    assert acts["l1h1"] == {1}
    assert acts["l0h1 + l2 mlp"] == {0, 2}
    tied = LanguageModel.wrap(make_model("gpt2"))
    assert places(tied, select(tied.model, tied.architecture, ["embed"])[0]) == {BELOW, 3}


@pytest.mark.parametrize("name", sorted(zoo.ZOO))
def test_every_architecture_responds(name: str) -> None:
    """In the last block a response is the derivative of the loss, whatever the architecture."""
    model, tokens = LanguageModel.wrap(zoo.build(name)), torch.arange(3, 15)[None]
    given = directions_of(model, ["l2 mlp"])
    expected = whole_derivative(model, given[0], tokens)
    gap = (found(model, given, tokens)[..., 0] - expected).abs()
    # The step may send a token to another expert: a jump, which has no derivative.
    assert (gap > 5e-2 * (expected.abs() + expected.abs().median())).sum() <= 1


def test_mean_directions_are_means_of_gradients() -> None:
    """One pair of draws, and the gradients there by autograd."""
    model = LanguageModel.wrap(make_model("gpt_neox"))
    settings = apart(SGLDConfig(localization=100.0, pool_contexts=2, reference_contexts=2, batch_contexts=2), 2)
    component = select(model.model, model.architecture, ["l1 mlp"])[0]
    pool = Tail.at(model, TOKENS, 1)
    ours = mean_directions([ChainKey(component, 0)], pool, settings, BUDGET)[0]
    from scale.draws.directions import point

    x = point(component.name, 0, 0, len(ours), settings, "cpu")
    expected = torch.zeros_like(x)
    for sign in (1, -1):
        offsets = (sign * x).requires_grad_()
        loss = pool.minibatch_means(torch.arange(2)[None], [Stack(component, offsets[None])]).sum()
        expected += torch.autograd.grad(loss, offsets)[0] / (2 * settings.localization)
    assert torch.allclose(ours, expected, atol=1e-4 * float(expected.abs().max()))
    assert expected.abs().max() > 1e-6
    assert apart(settings, 2).seed != settings.seed, "no draws that susceptibilities are measured with"
