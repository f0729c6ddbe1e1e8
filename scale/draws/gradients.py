"""The gradient of L on all reference contexts, at the weights of many chains at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scale.draws.chains import ChainKey, means_and_slopes
from scale.model.batches import Budget
from scale.model.tail import Tail


def mean_gradients(
    tail: Tail, keys: Sequence[ChainKey], offsets: torch.Tensor, budget: Budget
) -> tuple[np.ndarray, torch.Tensor]:
    """L on all contexts at every chain's weights, and its gradient: (chains,) float64 and (chains, parameters)."""
    contexts, length = tail.tokens.shape
    losses, slopes = np.zeros(len(offsets)), torch.zeros_like(offsets)

    def some_contexts(first: int, last: int) -> None:
        within = tail.subset(torch.arange(first, last, device=tail.tokens.device))
        index = torch.arange(last - first, device=tail.tokens.device)
        means, own = offsets.new_empty(len(offsets)), torch.empty_like(offsets)

        def some(begin: int, end: int) -> None:
            part = slice(begin, end)
            every = index.repeat(end - begin, 1)
            means[part], own[part] = means_and_slopes(within, every, keys[part], offsets[part])

        budget.ranges(len(offsets), lambda: budget.variants(within.tokens.numel(), offsets.shape[1]), some)
        share = (last - first) / contexts
        np.add(losses, share * means.double().cpu().numpy(), out=losses)
        slopes.add_(own, alpha=share)

    budget.ranges(contexts, lambda: budget.variants(length), some_contexts, "contexts")
    return losses, slopes
