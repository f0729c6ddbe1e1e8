"""Gradients along a token's own column: against differences taken one token and one direction at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import zoo
from conftest import MODELS, VOCABULARY, make_model
from scale.errors import UserError
from scale.model.forward import block_list
from scale.model.language_model import LanguageModel
from scale.taps.columns import check_columns, columns

TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (2, 9)))
LAYERS = [1, 2]


def loss_of(model: Any, context: int, token: int) -> torch.Tensor:
    """The loss of one token, as its definition says."""
    logits = model(TOKENS[context : context + 1], use_cache=False).logits[0, token - 1]
    return -torch.log_softmax(logits, dim=0)[TOKENS[context, token]]


@contextmanager
def moved(model: LanguageModel, layer: int, position: int, by: torch.Tensor) -> Iterator[None]:
    """The stream that a block reads, moved at one position."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden = (args[0] if args else kwargs["hidden_states"]).clone()
        hidden[:, position] += by
        return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})

    handle = block_list(model)[2][layer].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def attention(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, Any], Any]) -> Iterator[None]:
    """Keys and values of every call of attention, in order, seen or replaced."""
    plain, count = functional.scaled_dot_product_attention, iter(range(100))

    def changed(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return plain(query, *change(next(count), (key, value)), *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(functional, "scaled_dot_product_attention", changed)
        yield


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_gradients_are_differences_with_keys_and_values_held(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move one position's stream and watch the next token's loss, with all keys and values as they were."""
    model = LanguageModel.wrap(make_model(kind).double())
    gradients = columns(model, TOKENS, LAYERS).gradients
    context, token, step = 1, 6, 1e-3  # some norms are taken in float32
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=model.architecture.width))
    held: list[Any] = []
    with torch.no_grad(), attention(monkeypatch, lambda _, pair: (held.append(pair), pair)[1]):
        loss_of(model.model, context, token)
    assert len(held) == model.architecture.layers, "every block's attention is seen"
    for layer, found in zip(LAYERS, gradients, strict=True):
        losses = []
        for sign in (1, -1):
            by = sign * step * direction
            with torch.no_grad(), moved(model, layer, token - 1, by), attention(monkeypatch, lambda i, _: held[i]):
                losses.append(loss_of(model.model, context, token))
        slope = float(losses[0] - losses[1]) / (2 * step)
        assert float(found[context, token - 1] @ direction) == pytest.approx(slope, rel=2e-3)
        assert abs(slope) > 1e-2


def test_the_gradient_at_the_top_is_the_whole_gradient() -> None:
    model = LanguageModel.wrap(make_model("gpt_neox"))
    slopes = columns(model, TOKENS, LAYERS).slopes
    states = model.model.base_model(TOKENS).last_hidden_state.detach().requires_grad_()
    logits = model.model.get_output_embeddings()(states[:, :-1])
    functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten(), reduction="sum").backward()
    assert torch.allclose(slopes, states.grad[:, :-1], atol=1e-6)


def test_streams_are_what_the_blocks_read() -> None:
    model = make_model("gpt_neox")
    streams = columns(LanguageModel.wrap(model), TOKENS, LAYERS).streams
    states = model(TOKENS, output_hidden_states=True).hidden_states
    for layer, stream in zip(LAYERS, streams, strict=True):
        assert torch.allclose(stream, states[layer], atol=1e-6)


@pytest.mark.parametrize("name", sorted(zoo.ZOO))
def test_no_loss_reaches_another_column_in_any_architecture(name: str) -> None:
    check_columns(LanguageModel.wrap(zoo.build(name)), torch.arange(3, 15)[None], LAYERS)


def test_without_holding_keys_and_values_a_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scale.taps.columns.KEYS_AND_VALUES", {})
    with pytest.raises(UserError, match=r"set taps\.gradients: false"):
        check_columns(LanguageModel.wrap(make_model("gpt_neox")), TOKENS, LAYERS)


def test_a_context_does_not_depend_on_its_company() -> None:
    model = LanguageModel.wrap(make_model("llama"))
    together, alone = (
        [*found.streams, *found.gradients, found.slopes]
        for found in (columns(model, TOKENS, LAYERS), columns(model, TOKENS[1:], LAYERS))
    )
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one[1:], other, atol=1e-6)


def test_weights_ask_for_no_gradient_and_get_none() -> None:
    model = LanguageModel.wrap(make_model("gpt_neox"))
    columns(model, TOKENS, LAYERS)
    assert all(parameter.grad is None for parameter in model.model.parameters())
