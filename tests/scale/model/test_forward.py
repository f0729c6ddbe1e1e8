"""The residual stream, and what stands in for the blocks below."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scale.model.batches import Budget
from scale.model.forward import StandIn, block_list, residual_stream, streams
from scale.model.language_model import LanguageModel

from conftest import MODELS, VOCABULARY, make_model  # isort: skip

TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (5, 24)))


@pytest.mark.parametrize("kind", MODELS)
def test_the_residual_stream_is_what_transformers_calls_hidden_states(kind: str) -> None:
    """Entry l of `hidden_states` is what block l reads; the last one is normed in transformers, ours is not."""
    model = make_model(kind)
    language_model = LanguageModel.wrap(model)
    with torch.no_grad():
        states = model(TOKENS, output_hidden_states=True).hidden_states
        ours = residual_stream(language_model, TOKENS, [0, 1, 2, 3])
    for layer in range(3):
        assert torch.allclose(ours[layer], states[layer], atol=1e-6)
    assert not torch.allclose(ours[3], states[3], atol=1e-2)


def test_nothing_above_the_highest_layer_asked_for_is_computed() -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    ran: list[int] = []
    for index, block in enumerate(block_list(language_model)[2]):
        block.mlp.register_forward_hook(lambda *_, index=index: ran.append(index))  # type: ignore[operator, union-attr]
    residual_stream(language_model, TOKENS, [1, 2])
    assert ran == [0, 1]


def test_streams_of_several_layers_come_from_one_pass_in_batches() -> None:
    language_model = LanguageModel.wrap(make_model("llama"))
    together = streams(language_model, TOKENS, [0, 2, 1, 3], Budget(2 * TOKENS.shape[1]))
    assert together[0] is None
    for layer in (1, 2, 3):
        assert torch.allclose(together[layer], residual_stream(language_model, TOKENS, [layer])[0], atol=1e-6)


def test_a_stand_in_looks_like_its_block_but_holds_none_of_its_weights() -> None:
    block: Any = nn.Linear(3, 3)
    block.attention_type = "sliding_attention"
    stand_in = StandIn(block, torch.ones(2), as_tuple=True)
    assert stand_in.attention_type == "sliding_attention"
    assert not list(stand_in.parameters())
    assert torch.equal(stand_in(torch.zeros(2), anything=1)[0], torch.ones(2))
