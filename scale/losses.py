"""Token losses from hidden states, a block of logits at a time: nothing of size (tokens x vocabulary) is ever held.

Pure arithmetic on tensors. Without a gradient, blocks of rows meet blocks of the vocabulary and the log-sum-exp is
merged as it goes; the block of logits stays in the processor's cache and is written over in place. With a gradient
with respect to the hidden states, it is formed in the same pass (the softmax is at hand then) and kept in place of the
logits, so that the backward pass has nothing left to do but to scale it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from scale.unembedding import Unembedding

#: Logits held at once: on a processor what its cache holds, on a GPU what keeps it busy.
CPU_ROWS, CPU_VOCABULARY, CPU_LOGITS = 512, 4096, 2**22
GPU_LOGITS = 2**27


def target_logits(
    states: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, unembedding: Unembedding
) -> torch.Tensor:
    products = (states * weight[targets]).sum(dim=1, dtype=torch.float32)
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


def log_sum_exp(
    states: torch.Tensor, weight: torch.Tensor, unembedding: Unembedding, scratch: Scratch, width: int
) -> torch.Tensor:
    """log Σ exp(logits) of every row, merged over blocks of ``width`` entries of the vocabulary."""
    total = None
    biases = unembedding.bias.split(width) if unembedding.bias is not None else [None] * -(-len(weight) // width)
    for part, bias in zip(weight.split(width), biases, strict=True):
        logits = unembedding.finish(scratch.product(states, part, bias).float())
        highest = logits.amax(dim=1)
        found = logits.sub_(highest[:, None]).exp_().sum(dim=1).log_().add_(highest)
        total = found if total is None else torch.logaddexp(total, found)
    assert total is not None
    return total


def block_shape(states: torch.Tensor, vocabulary: int) -> tuple[int, int]:
    """Rows and entries of the vocabulary in one block of logits."""
    if states.device.type == "cpu":
        return CPU_ROWS, min(vocabulary, CPU_VOCABULARY)
    return max(1, GPU_LOGITS // vocabulary), vocabulary


def losses_only(
    states: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, unembedding: Unembedding
) -> torch.Tensor:
    """Loss in nats of every row of ``states`` (rows, width), float32."""
    rows, width = block_shape(states, len(weight))
    scratch = Scratch(states, min(rows, len(states)) * width)
    sums = [log_sum_exp(part, weight, unembedding, scratch, width) for part in states.split(rows)]
    return torch.cat(sums) - target_logits(states, targets, weight, unembedding)


class LossesWithGradient(torch.autograd.Function):
    """Losses whose derivative with respect to the hidden states is formed beside them."""

    @staticmethod
    def forward(
        context: Any, states: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, unembedding: Unembedding
    ) -> torch.Tensor:
        limit = CPU_LOGITS if states.device.type == "cpu" else GPU_LOGITS
        rows = max(16, min(len(states), limit // len(weight)))
        scratch = Scratch(states, rows * len(weight))
        losses = torch.empty(len(states), device=states.device)
        slopes = torch.empty_like(states)
        for begin in range(0, len(states), rows):
            span = slice(begin, begin + rows)
            losses[span] = row_losses(states[span], targets[span], weight, unembedding, scratch, slopes[span])
        context.save_for_backward(slopes)
        return losses

    @staticmethod
    def backward(context: Any, *upstream: torch.Tensor) -> Any:
        (slopes,) = context.saved_tensors
        return slopes * upstream[0][:, None].to(slopes.dtype), None, None, None


def row_losses(
    states: torch.Tensor,
    targets: torch.Tensor,
    weight: torch.Tensor,
    unembedding: Unembedding,
    scratch: Scratch,
    slopes: torch.Tensor,
) -> torch.Tensor:
    """Losses of some rows; their derivatives (softmax - target) · slope · W are written into ``slopes``."""
    logits = unembedding.finish(scratch.product(states, weight, unembedding.bias).float())
    slope = unembedding.slope(logits)
    index = torch.arange(len(states), device=states.device)
    chosen = logits[index, targets]
    highest = logits.amax(dim=1)
    softmax = logits.sub_(highest[:, None]).exp_()
    sums = softmax.sum(dim=1)
    softmax.div_(sums[:, None])
    softmax[index, targets] -= 1
    torch.mm(softmax.mul_(slope).to(weight.dtype), weight, out=slopes)
    return sums.log_().add_(highest).sub_(chosen)


def differentiable_losses(
    states: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor, unembedding: Unembedding
) -> torch.Tensor:
    """As `losses_only`, for gradients of the weight too: block by block, recomputed in the backward pass."""

    def block(part: torch.Tensor, target: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        logits = unembedding.finish(functional.linear(part, matrix, unembedding.bias).float())
        return functional.cross_entropy(logits, target, reduction="none")

    limit = CPU_LOGITS if states.device.type == "cpu" else GPU_LOGITS
    rows = max(16, limit // len(weight))
    found = [
        checkpoint(block, part, target, weight, use_reentrant=False)
        for part, target in zip(states.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(found)


def token_losses(
    states: torch.Tensor, targets: torch.Tensor, unembedding: Unembedding, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Loss in nats of every row: ``states`` (rows, width), ``targets`` (rows,).

    ``weight`` stands in for the unembedding's own. Differentiable in what asks for a gradient.
    """
    matrix = unembedding.weight if weight is None else weight
    if torch.is_grad_enabled() and matrix.requires_grad:
        return differentiable_losses(states, targets, matrix, unembedding)
    if torch.is_grad_enabled() and states.requires_grad:
        found: torch.Tensor = LossesWithGradient.apply(states, targets, matrix, unembedding)
        return found
    return losses_only(states, targets, matrix, unembedding)
