"""When chains diverge: which step size would have held, found by a few short trial chains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from scale.config import SGLDConfig
from scale.costs import METHODS
from scale.draws.chains import ChainKey, draw_chains
from scale.model.batches import Budget
from scale.model.components import Component
from scale.model.tail import Tail

#: A trial: so many chains and draws, and at most so many steps of each chain.
CHAINS, DRAWS, STEPS = 2, 5, 50
#: What the step size is divided by, one trial after another.
DIVISORS = tuple(factor * 10**power for power in range(6) for factor in (3, 10))


def trials(settings: SGLDConfig) -> Iterator[SGLDConfig]:
    """Short chains, otherwise as asked for, at smaller and smaller steps."""
    between = max(1, min(settings.total_steps, STEPS) // DRAWS)
    if settings.estimator == "tangent-gradient":  # its chains are stable where those of sgld are
        settings = replace(settings, estimator="plain", sampler="sgld")
    short = replace(settings, chains=CHAINS, draws=DRAWS, burn_in=0, steps_between_draws=between)
    for divisor in DIVISORS:
        yield replace(short, step_size=float(f"{settings.step_size / divisor:.2g}"))


def largest_stable_step(
    component: Component, pool: Tail, settings: SGLDConfig, trained_loss: float, budget: Budget
) -> float | None:
    """The largest of ε/3, ε/10, ε/30, ... at which no trial chain diverged; None if all did."""
    keys = [ChainKey(component, chain) for chain in range(CHAINS)]
    for trial in trials(settings):
        chains = draw_chains(keys, pool, trial, budget)
        if not any(chain.diverged(trained_loss, settings.runaway) for chain in chains):
            return trial.step_size
    return None


def too_large(
    key: str, what: str, component: Component, pool: Tail, settings: SGLDConfig, trained_loss: float, budget: Budget
) -> str:
    """What is said of a step size at which ``what`` diverged; ``key`` is how the user calls the step size."""
    if METHODS[settings.estimator].gaussian:
        section = key.rpartition(".")[0]
        return (
            f"{section}.localization: at {settings.localization:g} the loss at draws of {what} is no number, or more "
            f"than {settings.runaway:g} nats above the trained one; use a larger {section}.localization"
        )
    step = largest_stable_step(component, pool, settings, trained_loss, budget)
    if step is None:
        smallest = settings.step_size / DIVISORS[-1]
        found = f"in short trials every step down to {smallest:.2g} did too; check localization and nbeta"
    else:
        found = f"{step:g} did not, in a short trial of {component.name}; use that or less"
    return f"{key}: {what} diverged at {settings.step_size:g}; {found}"
