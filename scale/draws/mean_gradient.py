"""Draws for the estimator `mean-gradient`: the mean direction v̄ = E ∇L(w* + X) / γ of every chain, X ~ N(0, I/γ).

Pairs ±X as for `gaussian-gradient` (`scale.draws.directions`), of which the mean alone is kept. Of the covariance's
terms

    Cov(φ, g) = Σ_k 1/(k! γ^k) <E ∇^k φ, E ∇^k g>

it is for the first, v̄ᵀ E ∇g: the direction is one for all tokens, and precise after a few draws. Kept beside its length
is that of every pair's own mean direction, which tells how much of a gradient is common to all draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scale.config import SGLDConfig
from scale.draws.chains import ChainKey
from scale.draws.directions import SIGNS, DirectionGroup, Keep, as_stored, lengths_of
from scale.model.batches import Budget
from scale.model.tail import Tail

#: Of a gradient, what must be common to all draws for the first term to be taken for the covariance.
LEAST_COMMON = 0.8


def common_share(lengths: np.ndarray) -> float:
    """|E v|² / E |v|² of independent v, from ``lengths``: of the mean of n of them, then of each.

    Of independent v, E |Σv|² = n E|v|² + n (n - 1) |E v|². NaN for a single one, which has nothing in common.
    """
    squares, count = np.asarray(lengths, np.float64) ** 2, len(lengths) - 1
    if count < 2:
        return float("nan")
    both = (count**2 * squares[0] - squares[1:].sum()) / (count * (count - 1))
    return float(both / squares[1:].mean())


class MeanDirectionGroup(DirectionGroup):
    """Mean directions of a group of chains on their way."""

    def __init__(self, keys: Sequence[ChainKey], pool: Tail, settings: SGLDConfig, budget: Budget) -> None:
        super().__init__(keys, pool, settings, budget)
        self.rows = 1
        self.lengths = np.full((len(keys), 1 + settings.draws // 2), np.nan)
        self.total = torch.zeros(len(keys), self.width, device=self.reference.tokens.device)

    def draw_pair(self, keep: Keep) -> None:
        first, second = (self.directions(index, offsets) for index, offsets in self.both())
        own = (first + second) / len(SIGNS)
        self.total += own
        self.lengths[:, 1 + self.pairs] = lengths_of(own)

    def finish(self, keep: Keep) -> None:
        """The mean direction is the one row, and its length stands before the pairs'."""
        mean = self.total / self.pairs
        self.lengths[:, 0] = lengths_of(mean)
        keep(0, as_stored(mean, self.settings))

    def state(self) -> dict[str, torch.Tensor]:
        return {**super().state(), "total": self.total}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        super().restore(state)
        self.total = state["total"].to(self.total, copy=True)
