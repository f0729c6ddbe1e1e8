"""Every architecture, every kind of component: batched variants against the plain forward of the perturbed model."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from scale.errors import UserError
from scale.model.components import Component, Slots, catalogue, full, select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack, size_of

from zoo import VOCABULARY, ZOO, build  # isort: skip

TOKENS = torch.randint(3, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(0))
KINDS = ("embed", "unembed", "l1h1", "l1g0", "l1 attn", "l1 mlp", "l1", "l1h0 + l2 mlp")
WITH_GRADIENTS = (
    *("gpt_neox", "gpt2", "llama", "qwen3", "gemma2", "opt with narrow embeddings", "falcon in groups", "bloom"),
    *("gptj", "mpt", "cohere", "phi3", "mixtral", "gpt_oss"),
)
VARIANTS = 2


def plain_losses(model: Any) -> torch.Tensor:
    logits = model(TOKENS, use_cache=False).logits[:, :-1].float()
    found = functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten(), reduction="none")
    return found.view(len(TOKENS), -1)


def components_of(language_model: LanguageModel) -> list[Component]:
    """One of every kind that the model has."""
    model, architecture = language_model.model, language_model.architecture
    found = [full(model)]
    for name in KINDS:
        try:
            found += select(model, architecture, [name])
        except UserError:
            assert name in ("unembed", "l1g0"), name  # tied embeddings, and no grouped queries
    return found


@pytest.mark.parametrize("name", ZOO)
def test_losses_of_variants(name: str) -> None:
    model = build(name)
    language_model = LanguageModel.wrap(model)
    for component in components_of(language_model):
        size = size_of(component, language_model.parameters)
        spread = 0.02 if component.kind == "full" else 0.2
        offsets = spread * torch.randn(VARIANTS, size, generator=torch.Generator().manual_seed(1))
        slots = Slots(model, component)
        trained = slots.read()
        with torch.no_grad():
            found = Tail.at(language_model, TOKENS, component.start).losses([Stack(component, offsets)])
            for variant in range(VARIANTS):
                slots.write(trained + offsets[variant])
                expected = plain_losses(model)
                tolerance = 2e-5 * (1 + float(expected.abs().max()))
                assert (found[variant] - expected).abs().max() < tolerance, component.name
            slots.write(trained)
            assert (expected - plain_losses(model)).abs().max() > 1e-3, f"{component.name} does nothing"


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_of_variants(name: str) -> None:
    model = build(name)
    language_model = LanguageModel.wrap(model)
    for component in components_of(language_model):
        slots = Slots(model, component)
        size = size_of(component, language_model.parameters)
        leaf = 0.02 * torch.randn(VARIANTS, size, generator=torch.Generator().manual_seed(1))
        leaf.requires_grad_()
        tail, everywhere = Tail.at(language_model, TOKENS, component.start), torch.arange(3).repeat(VARIANTS, 1)
        (found,) = torch.autograd.grad(tail.minibatch_means(everywhere, [Stack(component, leaf)]).sum(), leaf)
        trained = slots.read()
        for variant in range(VARIANTS):
            slots.write(trained + leaf[variant].detach())
            parameters = slots.tensors
            for parameter in parameters:
                parameter.requires_grad_(True)
            plain_losses(model).mean().backward()
            expected = slots.gradient()
            for parameter in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None
            assert expected.abs().max() > 0
            assert torch.allclose(found[variant], expected, rtol=2e-3, atol=1e-4 * float(expected.abs().max()))
        slots.write(trained)


def test_there_is_something_to_try_of_every_kind() -> None:
    """A control of the lists above: every kind of component is tried on some architecture."""
    tried = {c.kind for name in ("llama", "gpt_neox") for c in components_of(LanguageModel.wrap(build(name)))}
    model = build("llama")
    every = {c.kind for c in catalogue(model, LanguageModel.wrap(model).architecture).values()}
    assert every <= tried
