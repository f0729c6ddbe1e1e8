"""What estimators cost, in forward passes of a token through the whole model. The one place that lists them.

A component in block l costs the share of the blocks from l on; the full model, which every run samples, the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scale.config import SGLDConfig

#: Forward and backward: a backward pass costs twice a forward.
PASSES_PER_GRADIENT = 3


@dataclass(frozen=True)
class Passes:
    """Tokens that go through the model: forward alone, and forward and backward."""

    forward: float = 0.0
    gradient: float = 0.0

    @property
    def cost(self) -> float:
        """In forward passes of a token."""
        return self.forward + PASSES_PER_GRADIENT * self.gradient


@dataclass(frozen=True)
class Work:
    """What a run has to do with its draws.

    Args:
        measured: Tokens whose susceptibilities are measured.
        reference: Tokens on which L is taken at a draw.
        minibatch: Tokens of a step of a chain.
        shares: Of every component, what a pass through it costs of one through the whole model.
    """

    measured: int
    reference: int
    minibatch: int
    shares: Sequence[float]


@dataclass(frozen=True)
class Method:
    """What distinguishes an estimator from others, as far as costs go.

    Args:
        evaluations: Of a token at each draw it is probed at.
        multiple: A document's draws, over both halves, come in multiples of this.
        chain: Its draws are those of the sampler, which must be well set.
        gaussian: Its posterior is N(w*, I/γ), whatever the loss does.
        sampling: Passes that all stored draws of one component take; of the full model if ``True`` is said.
    """

    evaluations: int
    multiple: int
    chain: bool
    gaussian: bool
    sampling: Callable[[SGLDConfig, Work, bool], Passes]


def at_draws(settings: SGLDConfig, work: Work) -> float:
    """Tokens of the reference contexts at every stored draw."""
    return float(settings.chains * settings.draws * work.reference)


def of_chains(settings: SGLDConfig, work: Work, full: bool) -> Passes:
    return Passes(at_draws(settings, work), float(settings.chains * settings.total_steps * work.minibatch))


def of_gradients(settings: SGLDConfig, work: Work, full: bool) -> Passes:
    """Of the full model only L is taken."""
    taken = at_draws(settings, work)
    return Passes(forward=taken) if full else Passes(gradient=taken)


def of_tangents(settings: SGLDConfig, work: Work, full: bool) -> Passes:
    """A draw's gradient is carried on for (1 - θ)/θ steps, on the average, each of which takes two gradients."""
    steps = 2 * settings.burn_in + settings.draws * settings.steps_between_draws  # of both chains of a pair
    sampled = float(settings.chains * steps * work.minibatch)
    if full:
        return Passes(at_draws(settings, work), sampled)
    theta = settings.step_size * settings.localization / 2
    carried = settings.chains * settings.draws * 2 * (1 - theta) / theta * work.minibatch
    return Passes(gradient=sampled + at_draws(settings, work) + carried)


METHODS: Mapping[str, Method] = {
    "plain": Method(evaluations=1, multiple=2, chain=True, gaussian=False, sampling=of_chains),
    "gaussian-gradient": Method(evaluations=2, multiple=4, chain=False, gaussian=True, sampling=of_gradients),
    "mean-gradient": Method(evaluations=2, multiple=4, chain=False, gaussian=True, sampling=of_gradients),
    "tangent-gradient": Method(evaluations=2, multiple=4, chain=False, gaussian=False, sampling=of_tangents),
}


def sampling_cost(settings: SGLDConfig, work: Work) -> float:
    """Of the draws of all components and the full model."""
    sampling = METHODS[settings.estimator].sampling
    return sum(work.shares) * sampling(settings, work, False).cost + sampling(settings, work, True).cost


def probing_cost(settings: SGLDConfig, draws_per_document: int, work: Work) -> float:
    """Of measuring the tokens at them."""
    return (sum(work.shares) + 1) * draws_per_document * METHODS[settings.estimator].evaluations * work.measured


def run_cost(settings: SGLDConfig, draws_per_document: int, work: Work) -> float:
    """Of sampling and probing all components and the full model."""
    return sampling_cost(settings, work) + probing_cost(settings, draws_per_document, work)
