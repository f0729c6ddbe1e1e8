"""Compiled blocks against the model's own: the same losses and gradients, and used only where they may be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from scale.compiled import CompiledBlocks
from scale.components import Component, all_components, full
from scale.errors import UserError
from scale.forward import block_list
from scale.language_model import LanguageModel
from scale.tail import Tail
from scale.variants import Stack, size_of

from conftest import MODELS, VOCABULARY, make_model  # isort: skip

# Of themselves alone: torch's compiler warns of how torch's compiler looks at tensors, and of parts it imports.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("UserWarning", "DeprecationWarning")]

TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (4, 24)))


class Counting:
    """A backend that leaves the graph as it is and counts how often it is run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self.runs += 1
            return graph.forward(*args)

        return run


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> None:
    torch.compiler.reset()


def with_backend(language_model: LanguageModel, backend: Any) -> LanguageModel:
    return replace(language_model, compiled=CompiledBlocks(list(block_list(language_model)[2]), backend))


def components_of(language_model: LanguageModel) -> dict[str, Component]:
    every = [*all_components(language_model.model, language_model.architecture), full(language_model.model)]
    return {component.name: component for component in every}


def losses_and_gradient(language_model: LanguageModel, component: Component) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    offsets = 0.1 * torch.randn(2, size_of(component, language_model.parameters), generator=generator)
    leaf, tail = offsets.clone().requires_grad_(), Tail.at(language_model, TOKENS, component.start)
    means = tail.minibatch_means(torch.arange(4).repeat(2, 1), [Stack(component, leaf)])
    return tail.losses([Stack(component, offsets)]), torch.autograd.grad(means.sum(), leaf)[0]


@pytest.mark.parametrize("kind", MODELS)
def test_losses_and_gradients_are_those_of_the_plain_blocks(kind: str) -> None:
    plain, counting = LanguageModel.wrap(make_model(kind)), Counting()
    compiled = with_backend(plain, counting)
    for name, component in components_of(plain).items():
        expected, before = losses_and_gradient(plain, component), counting.runs
        found = losses_and_gradient(compiled, component)
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6), name
        used = counting.runs - before
        assert (used == 0) == (name in ("full", "unembed", "l2 mlp") or name.startswith("l2h")), name


def test_only_blocks_that_nothing_differs_in() -> None:
    blocks = list(block_list(LanguageModel.wrap(make_model("gpt_neox")))[2])
    compiled = CompiledBlocks(blocks, "eager")
    inside = [next(blocks[1].parameters())]
    assert set(compiled.untouched(0, [], still=False)) == {0, 1, 2}
    assert set(compiled.untouched(0, inside, still=False)) == {0, 2}
    assert set(compiled.untouched(1, inside, still=False)) == {2}
    assert set(compiled.untouched(1, [], still=True)) == {2}


def test_the_compiler_itself() -> None:
    """With torch's own backend, which makes kernels: once, since that takes its time."""
    plain = LanguageModel.wrap(make_model("gpt_neox"))
    compiled = LanguageModel.wrap(plain.model, compiled=True)
    component = components_of(plain)["l0h1"]
    found, expected = losses_and_gradient(compiled, component), losses_and_gradient(plain, component)
    assert compiled.compiled is not None
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_blocks_that_cannot_be_compiled_are_an_error_of_one_line() -> None:
    def fails(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler\nat all")

    plain = LanguageModel.wrap(make_model("gpt_neox"))
    with pytest.raises(UserError, match=r"^model\.compile: torch cannot compile .* set it to false$"):
        losses_and_gradient(with_backend(plain, fails), components_of(plain)["l0h1"])
