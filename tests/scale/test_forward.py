"""Losses through prefix and tail against the plain full forward, on every architecture and kind of component."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from scale.chains import Perturbed, differentiable
from scale.components import Slots, all_components
from scale.forward import Tail, block_list, residual_stream
from scale.language_model import LanguageModel

from conftest import MODELS, VOCABULARY, make_model  # isort: skip

TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (5, 24)))


def plain_losses(model: Any) -> torch.Tensor:
    logits = model(TOKENS, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten(), reduction="none").view(5, -1)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("tied", [False, True])
def test_every_component_through_its_tail(kind: str, tied: bool) -> None:
    language_model = LanguageModel.wrap(make_model(kind, tie_word_embeddings=tied))
    unperturbed = plain_losses(language_model.model)
    generator = np.random.default_rng(1)
    components = all_components(language_model.model, language_model.architecture)
    assert ("unembed" in {c.name for c in components}) is not tied
    for component in components:
        tail = Tail(language_model, TOKENS, component.start)
        with Perturbed(language_model, component) as weights, torch.no_grad():
            offset = 0.3 * generator.normal(size=weights.trained.shape).astype(np.float32)
            weights.set_offset(offset)
            expected = plain_losses(language_model.model)
            assert torch.allclose(tail.losses(), expected, atol=2e-5), component.name
            assert (expected - unperturbed).abs().max() > 1e-3, f"{component.name} does nothing"
    assert torch.equal(plain_losses(language_model.model), unperturbed)  # everything was put back


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_are_those_of_the_full_forward(kind: str) -> None:
    language_model = LanguageModel.wrap(make_model(kind))
    for component in all_components(language_model.model, language_model.architecture):
        slots = Slots(language_model.model, component)
        tail = Tail(language_model, TOKENS, component.start)
        gradients = []
        for losses in (tail.losses, lambda: plain_losses(language_model.model)):
            with differentiable(slots):
                losses().mean().backward()
                gradients.append(slots.gradient())
        assert gradients[0].abs().max() > 0
        assert torch.allclose(*gradients, atol=1e-6), component.name


def test_the_model_is_whole_again_after_an_error_inside_a_tail() -> None:
    language_model = LanguageModel.wrap(make_model("llama"))
    _, _, blocks = block_list(language_model)
    tail = Tail(language_model, TOKENS, 2)
    tail.hidden = tail.hidden[:2]  # does not fit the tokens
    with pytest.raises((RuntimeError, ValueError)):
        tail.losses()
    assert block_list(language_model)[2] is blocks
    assert language_model.model.config.num_hidden_layers == 3


def test_a_subset_of_contexts_has_the_losses_of_those_contexts() -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    tail, index = Tail(language_model, TOKENS, 1), torch.tensor([4, 1])
    with torch.no_grad():
        assert torch.allclose(tail.subset(index).losses(), tail.losses()[index], atol=1e-6)


def test_the_residual_stream_is_what_transformers_calls_hidden_states() -> None:
    """Entry l of `hidden_states` is what block l reads; the last one is normed in transformers, ours is not."""
    model = make_model("gpt_neox")
    language_model = LanguageModel.wrap(model)
    with torch.no_grad():
        states = model(TOKENS, output_hidden_states=True).hidden_states
        ours = residual_stream(language_model, TOKENS, [0, 1, 2, 3])
        normed = model.base_model.final_layer_norm(ours[3])
    for layer in range(3):
        assert torch.allclose(ours[layer], states[layer], atol=1e-6)
    assert torch.allclose(normed, states[3], atol=1e-5)
