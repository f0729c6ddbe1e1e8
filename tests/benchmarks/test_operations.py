"""Counted operations against those that torch counts as they are carried out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import jobs
from scale.model.operations import block_forward, evaluation, start, step, times

LENGTH, LAYERS, WIDTH = 16, 3, 32


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(jobs.SHAPES, "tiny", (LAYERS, WIDTH, 4, 96, 200))
    found = jobs.load_model(jobs.Job(model="tiny", components=("embed",), contexts=8, reference=8))
    found.set_attn_implementation("eager")  # whose two products are counted like any other
    return found.eval().requires_grad_(False)


def ids() -> torch.Tensor:
    return torch.randint(200, (2, LENGTH), generator=torch.Generator().manual_seed(0))


def without_attention(counts: Counter[str]) -> int:
    return sum(count for kind, count in counts.items() if kind != "attention")


def attention(blocks: int) -> int:
    """Operations of the two products of all tokens, which the plain model does not do causally."""
    return blocks * 4 * LENGTH * WIDTH * ids().numel()


def test_evaluation_from_the_lowest_block_is_one_forward_pass(model: Any) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids(), use_cache=False)
    counted = without_attention(evaluation(jobs.shape_of("tiny"), "embed", LENGTH)) * ids().numel()
    assert counter.get_total_flops() - attention(LAYERS) == counted


@pytest.mark.parametrize(
    ("component", "parameters", "attention_backwards"),
    [("embed", "embed_in", 3), ("l1 mlp", "layers.1.mlp", 1), ("unembed", "lm_head", 0)],
)
def test_a_step_is_a_forward_and_the_backward_that_autograd_does(
    model: Any, component: str, parameters: str, attention_backwards: int
) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameters in name)
    with FlopCounterMode(display=False) as counter:
        model(ids(), use_cache=False).logits.mean().backward()
    shape = jobs.shape_of("tiny")
    below = times(block_forward(shape, LENGTH), start(shape, component))  # the plain forward does these as well
    counted = without_attention(step(shape, component, LENGTH) + below) * ids().numel()
    assert counter.get_total_flops() - attention(LAYERS + 2 * attention_backwards) == counted


def test_the_heads_of_a_block_share_the_operations_of_its_attention(model: Any) -> None:
    shape = jobs.shape_of("tiny")
    whole = step(shape, "l1h0", LENGTH) - times(evaluation(shape, "l1h0", LENGTH), 1)
    above = step(shape, "l2h0", LENGTH) - times(evaluation(shape, "l2h0", LENGTH), 1)
    block = times(block_forward(shape, LENGTH), 1)
    assert whole["qkv"] - above["qkv"] == block["qkv"]
    assert above["qkv"] == block["qkv"] // shape.heads
