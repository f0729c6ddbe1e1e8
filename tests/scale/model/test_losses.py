"""Losses in blocks against cross entropy of all logits at once, with their derivatives, ordinary and extreme."""

import pytest
import torch
from torch.nn import functional

from scale.model.losses import mean_losses, token_losses
from scale.model.unembedding import Unembedding

ROWS, WIDTH, VOCABULARY = 700, 24, 5000  # more than one block of either


def unembedding(**options: float | None) -> Unembedding:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator) / WIDTH**0.5
    bias = torch.randn(VOCABULARY, generator=generator) if options.pop("bias", None) else None
    return Unembedding(weight, bias, **options)  # type: ignore[arg-type]


def data(size: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    states = size * torch.randn(2, ROWS // 2, WIDTH, generator=generator)
    return states, torch.randint(VOCABULARY, (2, ROWS // 2), generator=generator)


def plain(states: torch.Tensor, targets: torch.Tensor, own: Unembedding) -> torch.Tensor:
    logits = own.logits(states)
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


CASES = [{}, {"bias": 1.0}, {"scale": 0.3}, {"cap": 5.0}, {"bias": 1.0, "scale": 2.0}]


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("size", [1.0, 12.0, 300.0])
def test_losses_and_derivatives(options: dict[str, float], size: float) -> None:
    """At size 300 most losses are above 88 nats, where exponentials against the target's logit overflow."""
    own, (states, targets) = unembedding(**options), data(size)
    expected = plain(states, targets, own)
    if size == 300 and "cap" not in options:
        assert (expected > 88).any()
    found = token_losses(states.flatten(0, 1), targets.flatten(), own).view(targets.shape)
    assert torch.allclose(found, expected, rtol=2e-5, atol=2e-5)
    leaf, other = (states.clone().requires_grad_() for _ in range(2))
    weights = torch.tensor([1.0, -3.0])  # what comes down from above differs between variants
    means = mean_losses(leaf, targets, own)
    assert torch.allclose(means, expected.mean(dim=1), rtol=2e-5)
    (slope,) = torch.autograd.grad((means * weights).sum(), leaf)
    (wanted,) = torch.autograd.grad((plain(other, targets, own).mean(dim=1) * weights).sum(), other)
    assert torch.allclose(slope, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("options", CASES)
def test_derivatives_of_the_unembedding_itself(options: dict[str, float]) -> None:
    own, (states, targets) = unembedding(**options), data(1.0)
    parts = [own.weight, *([own.bias] if own.bias is not None else [])]
    for part in parts:
        part.requires_grad_()
    found = torch.autograd.grad(mean_losses(states[:1], targets[:1], own).sum(), parts)
    wanted = torch.autograd.grad(plain(states[:1], targets[:1], own).mean(), parts)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_one_row_that_overflows_spoils_no_other() -> None:
    own, (states, targets) = unembedding(), data(1.0)
    states[0, 3] *= 500
    found = token_losses(states.flatten(0, 1), targets.flatten(), own)
    assert torch.allclose(found, plain(states, targets, own).flatten(), rtol=2e-5, atol=2e-5)


def test_a_state_that_is_no_number_is_a_loss_that_is_none() -> None:
    own, (states, targets) = unembedding(), data(1.0)
    states[1, 5, 0] = torch.nan
    found = token_losses(states.flatten(0, 1), targets.flatten(), own)
    assert found.isnan().nonzero().flatten().tolist() == [ROWS // 2 + 5]
    assert mean_losses(states, targets, own).isnan().tolist() == [False, True]
