"""Token losses from hidden states, a block of logits at a time: nothing of size (tokens x vocabulary) is ever held.

Pure arithmetic on tensors. For the losses of tokens, blocks of rows meet blocks of the vocabulary and the sum of
exponentials is added up as it goes; the block of logits stays in the processor's cache and is written over in place.
For mean losses, their derivatives are formed in the same pass, while the softmax is at hand, so that the backward pass
has nothing left to do but to scale them.
"""

from __future__ import annotations

from typing import Any

import torch

from scale.model.unembedding import Unembedding

#: Logits held at once: on a processor what its cache holds, on a GPU what keeps it busy.
CPU_ROWS, CPU_VOCABULARY, CPU_LOGITS = 512, 2048, 2**20
GPU_LOGITS = 2**27
#: Rows below which a product over the whole vocabulary is no longer fast on a processor.
FEWEST_ROWS = 64


def target_logits(states: torch.Tensor, targets: torch.Tensor, unembedding: Unembedding) -> torch.Tensor:
    products = (states * unembedding.weight[targets]).sum(dim=1, dtype=torch.float32)
    if unembedding.bias is not None:
        products = products + unembedding.bias[targets]
    return unembedding.finish(products)


class Scratch:
    """One buffer for the logits of every block: fresh memory for each would cost more than the product."""

    def __init__(self, like: torch.Tensor, size: int) -> None:
        self.buffer = torch.empty(size, dtype=like.dtype, device=like.device)

    def product(self, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        out = self.buffer[: len(states) * len(weight)].view(len(states), len(weight))
        torch.mm(states, weight.t(), out=out)
        return out if bias is None else out.add_(bias)


def sums_against_target(
    states: torch.Tensor, shift: torch.Tensor, unembedding: Unembedding, scratch: Scratch, width: int
) -> torch.Tensor:
    """Σ exp(logit - shift) of every row, over blocks of ``width`` entries of the vocabulary."""
    total, weight = torch.zeros_like(shift), unembedding.weight
    biases = unembedding.bias.split(width) if unembedding.bias is not None else [None] * -(-len(weight) // width)
    for part, bias in zip(weight.split(width), biases, strict=True):
        logits = unembedding.finish(scratch.product(states, part, bias).float())
        total += logits.sub_(shift[:, None]).exp_().sum(dim=1)
    return total


def highest_logits(states: torch.Tensor, unembedding: Unembedding, scratch: Scratch, width: int) -> torch.Tensor:
    """The largest logit of every row."""
    weight = unembedding.weight
    biases = unembedding.bias.split(width) if unembedding.bias is not None else [None] * -(-len(weight) // width)
    parts = zip(weight.split(width), biases, strict=True)
    found = [unembedding.finish(scratch.product(states, w, b).float()).amax(dim=1) for w, b in parts]
    return torch.stack(found).amax(dim=0)


def whole_rows(states: torch.Tensor, vocabulary: int) -> int:
    """Rows whose logits over the whole vocabulary are held at once."""
    if states.device.type == "cpu":
        return max(FEWEST_ROWS, CPU_LOGITS // vocabulary)
    return max(1, GPU_LOGITS // vocabulary)


def block_shape(states: torch.Tensor, vocabulary: int) -> tuple[int, int]:
    """Rows and entries of the vocabulary in one block of logits."""
    if states.device.type == "cpu":
        return CPU_ROWS, min(vocabulary, CPU_VOCABULARY)
    return whole_rows(states, vocabulary), vocabulary


@torch.no_grad()
def token_losses(states: torch.Tensor, targets: torch.Tensor, unembedding: Unembedding) -> torch.Tensor:
    """Loss in nats of every row, float32: ``states`` (rows, width), ``targets`` (rows,).

    log Σ exp(logit - target's): against the target's logit there is no need to look for the largest one first, unless
    a loss is so large (88 nats) that the sum overflows; those rows are done again against their largest.
    """
    rows, width = block_shape(states, len(unembedding.weight))
    scratch, found = Scratch(states, min(rows, len(states)) * width), []
    for part, wanted in zip(states.split(rows), targets.split(rows), strict=True):
        chosen = target_logits(part, wanted, unembedding)
        sums = sums_against_target(part, chosen, unembedding, scratch, width)
        losses = sums.log_()
        if not losses.isfinite().all():
            highest = highest_logits(part, unembedding, scratch, width)
            safe = sums_against_target(part, highest, unembedding, scratch, width).log_() + highest - chosen
            losses = torch.where(losses.isfinite(), losses, safe)
        found.append(losses)
    return torch.cat(found)


@torch.no_grad()
def state_slopes(states: torch.Tensor, targets: torch.Tensor, unembedding: Unembedding) -> torch.Tensor:
    """Derivative of every row's loss with respect to its state, (rows, width): Wᵀ (softmax - target) · slope."""
    weight = unembedding.weight
    rows = min(len(states), whole_rows(states, len(weight)))
    scratch, found = Scratch(states, rows * len(weight)), []
    for part, wanted in zip(states.split(rows), targets.split(rows), strict=True):
        _, errors = row_losses(part, wanted, unembedding, scratch)
        found.append(errors.to(weight.dtype) @ weight)
    return torch.cat(found)


class MeanLosses(torch.autograd.Function):
    """Mean losses of variants, with their derivatives formed beside them.

    ``states`` (variants, rows, width); derivatives with respect to weight and bias only for a single variant.
    """

    @staticmethod
    def forward(
        context: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        unembedding: Unembedding,
    ) -> torch.Tensor:
        variants, count, width = states.shape
        own = weight.requires_grad or (bias is not None and bias.requires_grad)
        assert not own or variants == 1
        weight_slopes = torch.zeros_like(weight) if own else None
        bias_slopes = torch.zeros_like(bias) if own and bias is not None else None
        flat, wanted = states.reshape(-1, width), targets.reshape(-1)
        rows = min(len(flat), whole_rows(states, len(weight)))
        scratch = Scratch(flat, rows * len(weight))
        losses = torch.empty(len(flat), device=states.device)
        slopes = torch.empty_like(flat)
        quick = not own and unembedding.cap is None and weight.dtype == torch.float32
        for begin in range(0, len(flat), rows):
            span = slice(begin, begin + rows)
            if quick and quick_slopes(flat[span], wanted[span], unembedding, scratch, losses[span], slopes[span]):
                continue
            losses[span], errors = row_losses(flat[span], wanted[span], unembedding, scratch)
            errors = errors.to(weight.dtype)
            torch.mm(errors, weight, out=slopes[span])
            if weight_slopes is not None:
                weight_slopes.addmm_(errors.t(), flat[span])
            if bias_slopes is not None:
                bias_slopes += errors.sum(dim=0)
        own_slopes = [None if part is None else part.div_(count) for part in (weight_slopes, bias_slopes)]
        context.save_for_backward(slopes.view(states.shape).div_(count), *own_slopes)
        return losses.view(variants, count).mean(dim=1)

    @staticmethod
    def backward(context: Any, *upstream: torch.Tensor) -> Any:
        slopes, weight_slopes, bias_slopes = context.saved_tensors
        by_variant = upstream[0].to(slopes.dtype)
        own = [None if part is None else part * by_variant[0] for part in (weight_slopes, bias_slopes)]
        return slopes * by_variant[:, None, None], *own, None, None


def quick_slopes(
    states: torch.Tensor,
    targets: torch.Tensor,
    unembedding: Unembedding,
    scratch: Scratch,
    losses: torch.Tensor,
    slopes: torch.Tensor,
) -> bool:
    """Losses of some rows and their derivatives with respect to the states, written where they belong.

    As `token_losses` against the target's logit, and normalised after the product with the weights, not before: half
    the passes over the logits that `row_losses` takes. False, and nothing of use, where the exponentials overflow.
    """
    weight, scale = unembedding.weight, unembedding.scale
    chosen = target_logits(states, targets, unembedding)
    logits = unembedding.finish(scratch.product(states, weight, unembedding.bias))
    exponentials = logits.sub_(chosen[:, None]).exp_()
    sums = exponentials.sum(dim=1)
    torch.log(sums, out=losses)
    if not losses.isfinite().all():
        return False
    torch.mm(exponentials, weight, out=slopes)
    slopes.mul_((scale / sums)[:, None]).sub_(weight[targets], alpha=scale)
    return True


def row_losses(
    states: torch.Tensor, targets: torch.Tensor, unembedding: Unembedding, scratch: Scratch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of some rows, and their derivatives (softmax - target) · slope with respect to W h + b."""
    logits = unembedding.finish(scratch.product(states, unembedding.weight, unembedding.bias).float())
    slope = unembedding.slope(logits)
    index = torch.arange(len(states), device=states.device)
    chosen = logits[index, targets]
    highest = logits.amax(dim=1)
    softmax = logits.sub_(highest[:, None]).exp_()
    sums = softmax.sum(dim=1)
    softmax.div_(sums[:, None])
    softmax[index, targets] -= 1
    errors = softmax if isinstance(slope, float) and slope == 1 else softmax.mul_(slope)
    return sums.log_().add_(highest).sub_(chosen), errors


def mean_losses(states: torch.Tensor, targets: torch.Tensor, unembedding: Unembedding) -> torch.Tensor:
    """Mean loss of every variant, differentiable: ``states`` (variants, rows, width), ``targets`` (variants, rows)."""
    found: torch.Tensor = MeanLosses.apply(states, unembedding.weight, unembedding.bias, targets, unembedding)
    return found
