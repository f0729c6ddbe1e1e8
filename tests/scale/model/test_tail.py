"""Losses of batched variants against the plain full forward of the perturbed model, on every kind of component."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from scale.model.components import Component, Slots, all_components, full
from scale.model.forward import block_list
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack, size_of

from conftest import MODELS, VOCABULARY, make_model  # isort: skip

TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (5, 24)))
VARIANTS = 3


def plain_losses(model: Any, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    logits = model(tokens, use_cache=False).logits[:, :-1].float()
    found = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return found.view(len(tokens), -1)


def with_weights(slots: Slots, flat: torch.Tensor, function: Callable[[], Any]) -> Any:
    """``function`` with the component's weights written into the model, one after the other, and put back."""
    before = slots.read()
    slots.write(flat)
    try:
        return function()
    finally:
        slots.write(before)


def plain_gradient(model: Any, slots: Slots) -> torch.Tensor:
    for parameter in slots.tensors:
        parameter.requires_grad_(True)
    plain_losses(model).mean().backward()
    found = slots.gradient()
    for parameter in slots.tensors:
        parameter.requires_grad_(False)
        parameter.grad = None
    return found


def offsets_for(language_model: LanguageModel, component: Component, count: int = VARIANTS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    spread = 0.05 if component.kind == "full" else 0.3
    return spread * torch.randn(count, size_of(component, language_model.parameters), generator=generator)


def everything(language_model: LanguageModel) -> list[Component]:
    return [*all_components(language_model.model, language_model.architecture), full(language_model.model)]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("tied", [False, True])
def test_every_component_in_every_variant(kind: str, tied: bool) -> None:
    language_model = LanguageModel.wrap(make_model(kind, tie_word_embeddings=tied))
    model = language_model.model
    unperturbed = plain_losses(model)
    assert ("unembed" in {c.name for c in everything(language_model)}) is not tied
    for component in everything(language_model):
        slots, offsets = Slots(model, component), offsets_for(language_model, component)
        with torch.no_grad():
            found = Tail.at(language_model, TOKENS, component.start).losses([Stack(component, offsets)])
            for variant in range(VARIANTS):
                flat = slots.read() + offsets[variant]
                expected = with_weights(slots, flat, lambda: plain_losses(model))
                assert torch.allclose(found[variant], expected, atol=2e-5), component.name
                assert (expected - unperturbed).abs().max() > 1e-3, f"{component.name} does nothing"
    assert torch.equal(plain_losses(model), unperturbed)  # everything was put back


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_are_those_of_the_full_forward(kind: str, tied: bool) -> None:
    language_model = LanguageModel.wrap(make_model(kind, tie_word_embeddings=tied))
    model = language_model.model
    for component in everything(language_model):
        slots, offsets = Slots(model, component), offsets_for(language_model, component)
        leaf = offsets.clone().requires_grad_()
        tail = Tail.at(language_model, TOKENS, component.start)
        means = tail.minibatch_means(torch.arange(5).repeat(VARIANTS, 1), [Stack(component, leaf)])
        (found,) = torch.autograd.grad(means.sum(), leaf)
        assert torch.allclose(means, tail.losses([Stack(component, offsets)]).mean(dim=(1, 2)), atol=1e-5)
        for variant in range(VARIANTS):
            flat = slots.read() + offsets[variant]
            expected = with_weights(slots, flat, lambda slots=slots: plain_gradient(model, slots))
            assert expected.abs().max() > 0
            assert torch.allclose(found[variant], expected, rtol=1e-3, atol=2e-5 * expected.abs().max()), component.name


def test_different_components_share_a_batch() -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    heads = [c for c in all_components(language_model.model, language_model.architecture) if c.name in ("l1h0", "l1h1")]
    stacks = [Stack(head, offsets_for(language_model, head, count)) for head, count in zip(heads, (1, 2), strict=True)]
    tail = Tail.at(language_model, TOKENS, 1)
    with torch.no_grad():
        together = tail.losses(stacks)
        apart = torch.cat([tail.losses([stack]) for stack in stacks])
    assert torch.allclose(together, apart, atol=1e-5)
    assert (together[1] - together[0]).abs().max() > 1e-3


def test_every_variant_can_have_contexts_of_its_own() -> None:
    language_model = LanguageModel.wrap(make_model("llama"))
    head = next(c for c in all_components(language_model.model, language_model.architecture) if c.name == "l1h2")
    stack, index = Stack(head, offsets_for(language_model, head)), torch.tensor([[0, 3], [4, 4], [2, 1]])
    tail = Tail.at(language_model, TOKENS, 1)
    with torch.no_grad():
        everywhere, own = tail.losses([stack]), tail.minibatch_means(index, [stack])
    for variant in range(VARIANTS):
        assert torch.allclose(own[variant], everywhere[variant][index[variant]].mean(), atol=1e-5)


def test_a_variant_without_offset_is_the_trained_model() -> None:
    language_model = LanguageModel.wrap(make_model("gpt2"))
    for component in everything(language_model):
        offsets = offsets_for(language_model, component)
        offsets[1] = 0
        with torch.no_grad():
            found = Tail.at(language_model, TOKENS, component.start).losses([Stack(component, offsets)])
        assert torch.allclose(found[1], plain_losses(language_model.model), atol=1e-5)


def test_the_model_is_whole_again_after_an_error_inside_a_tail() -> None:
    language_model = LanguageModel.wrap(make_model("llama"))
    _, _, blocks = block_list(language_model)
    mlp = next(c for c in all_components(language_model.model, language_model.architecture) if c.name == "l2 mlp")
    tail = Tail.at(language_model, TOKENS, 2)
    assert tail.hidden is not None
    tail.hidden = tail.hidden[..., :7]  # does not fit the norms
    with pytest.raises(RuntimeError):
        tail.losses([Stack(mlp, offsets_for(language_model, mlp))])
    assert block_list(language_model)[2] is blocks
    assert not any("forward" in module.__dict__ for module in language_model.model.modules())
    with torch.no_grad():
        assert torch.allclose(Tail.at(language_model, TOKENS, 2).losses()[0], plain_losses(language_model.model))


def test_a_subset_of_contexts_has_the_losses_of_those_contexts() -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    tail, index = Tail.at(language_model, TOKENS, 1), torch.tensor([4, 1])
    with torch.no_grad():
        assert torch.allclose(tail.subset(index).losses(), tail.losses()[:, index], atol=1e-6)


def test_in_lower_precision_small_offsets_are_not_swallowed() -> None:
    """bfloat16 rounds weights to 8 bits; offsets far below that still act, because they are multiplied apart."""
    exact = LanguageModel.wrap(make_model("gpt_neox"))
    rounded = LanguageModel.wrap(make_model("gpt_neox").to(torch.bfloat16))
    mlp = next(c for c in all_components(exact.model, exact.architecture) if c.name == "l2 mlp")
    offsets = 3e-4 * offsets_for(exact, mlp)
    changes = []
    for language_model in (exact, rounded):
        tail = Tail.at(language_model, TOKENS, 2)
        leaf = offsets.clone().requires_grad_()
        means = tail.minibatch_means(torch.arange(5).repeat(VARIANTS, 1), [Stack(mlp, leaf)])
        changes.append(torch.autograd.grad(means.sum(), leaf)[0].flatten())
        assert torch.isfinite(tail.losses([Stack(mlp, offsets)])).all()
    assert torch.corrcoef(torch.stack(changes))[0, 1] > 0.99
