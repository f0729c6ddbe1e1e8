"""The estimators that the yardstick compares: how each is run, and what it costs. A further one is an entry in both.

Costs are in forward passes of one context, for both halves, sampling included; a backward pass counts as two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scale.chi.probe import HALVES
from scale.config import SGLDConfig
from scale.draws.tangent import USUAL_THETA

#: Estimators that a change of nβ does not touch: measured once per γ.
WITHOUT_NBETA = {"gaussian-gradient", "mean-gradient"}


@dataclass(frozen=True)
class Sizes:
    """Contexts that are measured, and contexts of reference, that L is taken on and chains are run on."""

    measured: int
    reference: int


def settings_of(gamma: float, nbeta: float, chains: int, draws: int, reference: int) -> dict[str, SGLDConfig]:
    """Settings of each estimator, with so many draws in each chain and so many contexts of reference."""
    common: dict[str, Any] = {
        "localization": gamma, "nbeta": nbeta, "chains": chains, "draws": draws, "pool_contexts": reference,
        "reference_contexts": reference, "storage": "float32",
    }  # fmt: skip
    step = 0.1 / (gamma * 10)  # ε·γ·G/4 = 0.025 with the preconditioner's 1 / 0.1: a bias of 2.6 %
    chain: dict[str, Any] = {"step_size": step, "batch_contexts": 4, "burn_in": 60, "steps_between_draws": 8}
    return {
        "plain": SGLDConfig(estimator="plain", **chain, **common),
        "gaussian-gradient": SGLDConfig(estimator="gaussian-gradient", **common),
        "mean-gradient": SGLDConfig(estimator="mean-gradient", **common),
        "tangent-gradient": SGLDConfig(
            estimator="tangent-gradient",
            step_size=2 * USUAL_THETA / gamma,
            batch_contexts=4,
            burn_in=12,
            steps_between_draws=1,
            **common,
        ),
    }


def chain_cost(settings: SGLDConfig, picked: int, sizes: Sizes) -> float:
    """Steps on minibatches, L at every draw, and the losses of tokens at those picked."""
    steps = settings.chains * settings.total_steps * 3 * settings.batch_contexts
    return steps + settings.chains * settings.draws * sizes.reference + HALVES * picked * sizes.measured


def gradient_cost(settings: SGLDConfig, picked: int, sizes: Sizes) -> float:
    """A gradient on all contexts of reference at every draw; at those picked, a central difference."""
    return settings.chains * settings.draws * 3 * sizes.reference + HALVES * picked * 2 * sizes.measured


def tangent_cost(settings: SGLDConfig, picked: int, sizes: Sizes) -> float:
    """Both chains of a pair; and every draw's gradient carried on for (1 - θ)/θ steps, two gradients each."""
    steps = 2 * settings.burn_in + settings.draws * (settings.steps_between_draws + 2 * (1 - USUAL_THETA) / USUAL_THETA)
    return settings.chains * steps * 3 * settings.batch_contexts + gradient_cost(settings, picked, sizes)


#: By estimator: what ``settings.draws`` draws of every chain cost, and probing at ``picked`` of them a half.
COSTS: dict[str, Callable[[SGLDConfig, int, Sizes], float]] = {
    "plain": chain_cost,
    "gaussian-gradient": gradient_cost,
    "mean-gradient": gradient_cost,
    "tangent-gradient": tangent_cost,
}


def held(picked: int, chains: int, pool: int) -> int:
    """Draws of each chain for which a half holds ``pool`` times as many as a document picks; even, for pairs."""
    return 2 * -(-picked * pool // chains)


def ladder(most: int) -> list[int]:
    """2, 4, 8, ... draws a half."""
    return [2**k for k in range(1, most.bit_length()) if 2**k <= most]
