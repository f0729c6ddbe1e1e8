"""Which layers are tapped, and that a row holds the stream at its own token and the gradients of its own loss."""

import numpy as np
import pytest
import torch

import scale.taps.stage
from conftest import VOCABULARY, make_model
from scale.errors import UserError
from scale.model.batches import Budget
from scale.model.language_model import LanguageModel
from scale.taps.columns import columns
from scale.taps.stage import Taps, tap_layers, tapped

BUDGET = Budget(1000)
STREAMS = Taps((1, 2), gradients=False)
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (3, 10))


def test_taps_are_evenly_spaced_and_intermediate() -> None:
    assert tap_layers(24, 4) == [5, 10, 14, 19]
    assert tap_layers(5, 4) == [1, 2, 3, 4]
    assert tap_layers(12, 1) == [6]


@pytest.mark.parametrize(("depth", "count"), [(3, 3), (1, 1), (4, 4)])
def test_more_taps_than_intermediate_layers(depth: int, count: int) -> None:
    with pytest.raises(UserError, match=f"taps.count: a model of {depth} blocks has no {count} intermediate layers"):
        tap_layers(depth, count)


def test_rows_are_hidden_states_at_the_rows_own_token() -> None:
    model = make_model("gpt_neox")
    found = tapped(LanguageModel.wrap(model), TOKENS, STREAMS, (), BUDGET).reshape(3, 9, 2, 32)
    with torch.no_grad():
        states = model(torch.from_numpy(TOKENS), output_hidden_states=True).hidden_states
    for index, layer in enumerate((1, 2)):
        assert np.allclose(found[:, :, index], states[layer][:, 1:].numpy(), atol=1e-6)


def test_a_row_knows_its_token_and_nothing_after_it() -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    changed = TOKENS.copy()
    changed[:, 6] = (changed[:, 6] + 1) % VOCABULARY
    for gradients in (False, True):
        taps = Taps((2,), gradients)
        difference = np.abs(
            tapped(language_model, TOKENS, taps, (), BUDGET) - tapped(language_model, changed, taps, (), BUDGET)
        )
        moved = difference.reshape(3, 9, -1).max(axis=(0, 2)) > 1e-6
        assert moved.tolist() == [False] * 5 + [True] * 4


def test_a_row_ends_with_the_gradients_of_its_own_loss() -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    both = tapped(language_model, TOKENS, Taps((1, 2), gradients=True), (), BUDGET).reshape(27, 5, 32)
    found = columns(language_model, torch.from_numpy(TOKENS), (1, 2))
    assert np.allclose(both[:, :2], tapped(language_model, TOKENS, STREAMS, (), BUDGET).reshape(27, 2, 32), atol=1e-6)
    for index, part in enumerate([*found.gradients, found.slopes], start=2):
        assert np.allclose(both[:, index], part.reshape(27, 32).numpy(), atol=1e-6)
        assert np.abs(both[:, index]).max() > 1e-3


def test_memory_that_runs_out_halves_the_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that holds one context of ten tokens."""
    language_model, plain, sizes = LanguageModel.wrap(make_model("gpt_neox")), scale.taps.stage.residual_stream, []

    def small(model: LanguageModel, ids: torch.Tensor, layers: list[int]) -> list[torch.Tensor]:
        sizes.append(len(ids))
        if len(ids) > 1:
            raise torch.OutOfMemoryError("no room")
        return plain(model, ids, layers)

    expected = tapped(language_model, TOKENS, STREAMS, (), BUDGET)
    monkeypatch.setattr(scale.taps.stage, "residual_stream", small)
    found = tapped(language_model, TOKENS, STREAMS, (), Budget(30))
    assert np.allclose(found, expected, atol=1e-6)
    assert sizes == [3, 1, 1, 1]
    assert "out of memory with 3 contexts at once; going on with 1" in caplog.text
