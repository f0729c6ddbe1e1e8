"""Bayesian influence: how a query's loss would respond if one training context were upweighted.

Under the local posterior, d E[ℓ_q] / d(weight of z) = -Cov(ℓ_z, ℓ_q) per unit of nβ (Kreer et al. 2025). The
covariance is taken over the draws of all chains, each about its own mean, so that drifts between chains do not enter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from scale.chi.estimate import reliability
from scale.chi.susceptibilities import as_contexts, sample_components
from scale.config import SGLDConfig
from scale.draws.chains import Draws
from scale.errors import UserError
from scale.model.batches import Budget
from scale.model.components import Component, full, select
from scale.model.language_model import borrowed
from scale.model.tail import Tail
from scale.model.variants import Stack


class CovarianceAccumulator:
    """Cross-covariance of two vectors over draws, float64, by Welford's recurrence."""

    def __init__(self, left: int, right: int) -> None:
        self.count = 0
        self.left, self.right = np.zeros(left), np.zeros(right)
        self.comoment = np.zeros((left, right))

    def update(self, left: np.ndarray, right: np.ndarray) -> None:
        self.count += 1
        gap = left - self.left
        self.left += gap / self.count
        self.right += (right - self.right) / self.count
        self.comoment += np.outer(gap, right - self.right)


@dataclass(frozen=True)
class Influence:
    """``values`` (queries, training), positive where upweighting the training context raises the query's loss.

    ``halves`` are the same from either half of the chains, ``reliability`` their agreement over all pairs, and
    ``excluded_chains`` how many chains diverged and were left out.
    """

    values: np.ndarray
    halves: np.ndarray
    reliability: float
    excluded_chains: int


@torch.no_grad()
def context_losses(tail: Tail, stack: Stack, budget: Budget) -> np.ndarray:
    """Mean loss of every context at one draw, float64."""
    contexts, length = tail.tokens.shape
    parts: list[torch.Tensor] = []

    def some(begin: int, end: int) -> None:
        within = tail.subset(torch.arange(begin, end, device=tail.tokens.device))
        parts.append(within.losses([stack])[0])

    budget.ranges(contexts, lambda: budget.variants(length), some, "contexts")
    return torch.cat(parts).double().mean(dim=1).cpu().numpy()


def chain_covariance(component: Component, draws: Draws, queries: Tail, training: Tail) -> CovarianceAccumulator:
    """Covariance of query and training losses over the draws of one chain."""
    sums = CovarianceAccumulator(len(queries.tokens), len(training.tokens))
    budget = Budget.of(queries.tokens.device)
    for offset in draws.offsets:
        moved = torch.from_numpy(np.array(offset, np.float32))[None].to(queries.tokens.device)
        stack = Stack(component, moved)
        sums.update(context_losses(queries, stack, budget), context_losses(training, stack, budget))
    return sums


def half_influence(chains: list[CovarianceAccumulator]) -> np.ndarray:
    """-Cov pooled within the chains of one half."""
    freedom = sum(chain.count - 1 for chain in chains)
    return -np.sum([chain.comoment for chain in chains], axis=0) / freedom


def influence(
    model: nn.Module,
    queries: np.ndarray | torch.Tensor,
    training: np.ndarray | torch.Tensor,
    component: str = "full",
    *,
    sampler: SGLDConfig | None = None,
    seed: int = 0,
) -> Influence:
    """Influence of every training context on every query context.

    Args:
        model: A causal language model of transformers.
        queries: Token ids (queries, T).
        training: Token ids (contexts, T); the chains are run on them.
        component: Whose weights vary: "full", or a component's name.
        sampler: Settings of the chains; their seed is replaced by ``seed``.
        seed: Everything random follows from it.
    """
    settings = replace(sampler or SGLDConfig(), seed=seed)
    if settings.estimator != "plain":
        raise UserError(f"sampler.estimator: influence is taken over chains, not {settings.estimator}; use plain")
    asked, data = as_contexts("queries", queries, model), as_contexts("training", training, model)
    with borrowed(model) as language_model:
        part = full(model) if component == "full" else select(model, language_model.architecture, [component])[0]
        tails = []
        for ids in (asked, data):
            tokens = torch.from_numpy(ids).long().to(language_model.device)
            tails.append(Tail.at(language_model, tokens, part.start))
        (sampled,) = sample_components(language_model, [part], data, settings)
        halves = [[chain_covariance(part, draws, *tails) for draws in sampled.usable(half)] for half in range(2)]
    if not all(halves):
        raise UserError(f"influence: too many chains diverged at step size {settings.step_size:g}; use a smaller one")
    both = np.stack([half_influence(half) for half in halves])
    agreement = reliability(both.reshape(2, -1).T[:, :, None])[0]
    return Influence(both.mean(axis=0), both, float(agreement), settings.chains - sum(map(len, halves)))
