"""What short chains say about the sampler's settings: arrays in, verdicts out.

All but divergence is judged on the second half of a chain, when it has had time to settle. For one component at one
setting, with φ the rise of L above the trained weights at the draws:

    stays      no chain is infinite or further up than `sgld.runaway`
    rises      φ is positive on average in every chain
    flattens   the slope of φ is zero within its noise, or adds little to the rise
    agrees     R-hat of φ between chains, or means of chains as close as their noise
    smooth     the largest change of the trace, or of φ, against the typical one
    signal     E[φ] against its standard error
    local      E[φ] as a share of what the model knows: beyond some share the chain is about another model
    unbiased   by how much the step size inflates the variance, 1 / (1 - εGH/4) - 1, H = γ + nβ times the curvature met
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scale.calibrate.traces import autocorrelation_time, drift, gap, largest_jump, second_half, standard_error
from scale.chi.estimate import Estimator, Moments, Parts, assemble, reliability
from scale.config import CalibrateConfig, SGLDConfig
from scale.draws.diagnostics import mixing

CRITERIA = ("stays", "rises", "flattens", "agrees", "smooth", "signal", "local", "unbiased")


@dataclass(frozen=True)
class Verdict:
    """A measured value against its limit; ``passed`` is None where there is nothing to judge."""

    value: float
    limit: float
    passed: bool | None


@dataclass(frozen=True)
class Observed:
    """What the chains of one component at one setting showed.

    Args:
        trace: Minibatch losses (chains, steps).
        loss: L at the draws, from the first step on (chains, draws).
        probe: Losses of the probe tokens at the last of these draws (chains, draws, tokens).
        push: x·∇L of every step (chains, steps), x the offset from the trained weights.
        square: |x|² of every step (chains, steps).
        watched: A few coordinates of x at every step (coordinates, chains, steps).
        scale: The preconditioner G at those coordinates at the end (chains, coordinates).
        parameters: How many coordinates there are in all.
        cost: What sampling, L at the draws and probing took, in forward passes of a token through the whole model.
    """

    trace: np.ndarray
    loss: np.ndarray
    probe: np.ndarray
    push: np.ndarray
    square: np.ndarray
    watched: np.ndarray
    scale: np.ndarray
    parameters: int
    cost: float


@dataclass(frozen=True)
class Trained:
    """Losses at the trained weights: L on the reference contexts, and of every probe token.

    ``gain`` is what the model knows: by how many nats L is below that of a uniform guess.
    """

    loss: float
    probe: np.ndarray
    gain: float


@dataclass(frozen=True)
class Judgement:
    """One component at one setting: the verdicts, and figures that are compared rather than judged."""

    component: str
    verdicts: Mapping[str, Verdict]
    figures: Mapping[str, float]
    cost: float

    @property
    def failed(self) -> list[str]:
        return [name for name, verdict in self.verdicts.items() if verdict.passed is False]


def step_bias(step_size: float, scale: np.ndarray, stiffness: float) -> float:
    """By how much a step of ε inflates the stationary variance in a bowl of this stiffness, averaged over coordinates.

    x' = (1 - εGH/2) x + sqrt(εG) η has variance 1 / (H (1 - εGH/4)); from εGH/4 = 1 on there is none.
    """
    quarter = step_size * scale * stiffness / 4
    return float("inf") if (quarter >= 1).any() else float((1 / (1 - quarter)).mean()) - 1


def stiffness(observed: Observed, settings: SGLDConfig) -> float:
    """H = γ + nβ x·∇L / |x|². A direction in which L falls does not count: it would make the step look better."""
    curvature = float(second_half(observed.push).sum() / second_half(observed.square).sum())
    return settings.localization + settings.nbeta * max(0.0, curvature)


def excess(observed: Observed, settings: SGLDConfig) -> float:
    """E[x·∇U] per coordinate, less the 1 that it is under the posterior: the step-size bias as it came about.

    Negative where the chain has not got out to its equilibrium yet.
    """
    push, square = second_half(observed.push), second_half(observed.square)
    total = settings.nbeta * push.mean() + settings.localization * square.mean()
    return float(total) / observed.parameters - 1


def stays(observed: Observed, trained: float, runaway: float) -> Verdict:
    finite = all(np.isfinite(values).all() for values in (observed.trace, observed.loss, observed.probe))
    highest = float(observed.loss.max()) - trained if finite else float("inf")
    return Verdict(highest, runaway, highest <= runaway)


def rises(phi: np.ndarray) -> Verdict:
    lowest = float(phi.mean(axis=1).min())
    return Verdict(lowest, 0.0, lowest > 0)


def flattens(phi: np.ndarray, limits: CalibrateConfig) -> Verdict:
    """As a share of the rise."""
    rise, (change, error) = abs(float(phi.mean())), drift(phi)
    if rise == 0:
        return Verdict(float("nan"), limits.max_drift, None)
    limit = max(limits.noise * error / rise, limits.max_drift)
    return Verdict(change / rise, limit, abs(change) / rise <= limit)


def agrees(phi: np.ndarray, limits: CalibrateConfig) -> Verdict:
    """R-hat, but few draws make it large by chance: means that differ by their noise agree. NaN does not."""
    rhat = mixing(phi).rhat
    return Verdict(rhat, limits.max_rhat, bool(rhat <= limits.max_rhat or gap(phi) <= limits.noise))


def smooth(trace: np.ndarray, phi: np.ndarray, limit: float) -> Verdict:
    jump = max(largest_jump(trace), largest_jump(phi))
    return Verdict(jump, limit, bool(jump <= limit))


def signal(phi: np.ndarray, limit: float) -> Verdict:
    """Of either sign: which one it is, is judged by `rises`."""
    size, error = abs(float(phi.mean())), standard_error(phi)
    ratio = size / error if error > 0 else float("inf" if size > 0 else "nan")
    return Verdict(ratio, limit, bool(ratio >= limit))


def local(phi: np.ndarray, gain: float, limit: float, whole_model: bool) -> Verdict:
    """Not judged in a model that knows nothing, nor in the full model, whose chain goes furthest and is background."""
    if gain <= 0:
        return Verdict(float("nan"), limit, None)
    share = float(phi.mean()) / gain
    return Verdict(share, limit, None if whole_model else share <= limit)


def unbiased(observed: Observed, settings: SGLDConfig, limit: float) -> Verdict:
    bias = step_bias(settings.step_size, observed.scale, stiffness(observed, settings))
    return Verdict(bias, limit, bias <= limit)


def probed_phi(observed: Observed, trained: Trained) -> np.ndarray:
    """At the draws at which tokens were probed, (chains, draws)."""
    phi: np.ndarray = observed.loss[:, -observed.probe.shape[1] :] - trained.loss
    return phi


def half_parts(observed: Observed, trained: Trained) -> list[Parts]:
    """Covariance and shift of the probe tokens from either half of the chains."""
    phi = probed_phi(observed, trained)
    middle, rows = len(phi) // 2, observed.probe.shape[2]
    halves = []
    for chains in (slice(middle), slice(middle, None)):
        moments, own = Moments(rows), phi[chains].ravel()
        moments.update(own, observed.probe[chains].reshape(-1, rows) - trained.probe - own[:, None])
        halves.append(moments.result())
    return halves


def chi_reliability(observed: Observed, full: Observed, trained: Trained, estimator: Estimator) -> float:
    """Split-half reliability of χ of the probe tokens."""
    own, background = half_parts(observed, trained), half_parts(full, trained)
    mean_phi = np.array([probed_phi(observed, trained).mean()])
    halves = [
        assemble(mine.covariance[:, None], mine.shift[:, None], other.shift, mean_phi, estimator)
        for mine, other in zip(own, background, strict=True)
    ]
    return float(reliability(np.stack(halves, axis=1))[0])


def figures(observed: Observed, trained: Trained, settings: SGLDConfig, spacing: int) -> dict[str, float]:
    """What chains that stayed tell beyond the verdicts; times are in steps."""
    phi, trace = second_half(observed.loss) - trained.loss, second_half(observed.trace)
    noise = float(trace.std())
    return {
        "rise": float(phi.mean()),
        "gap": gap(phi),
        "spread": float(phi.std()) / noise if noise > 0 else float("nan"),
        "excess": excess(observed, settings),
        "stiffness": stiffness(observed, settings),
        "scale": float(observed.scale.mean()),
        "loss_time": autocorrelation_time(phi) * spacing,
        "weights_time": autocorrelation_time(second_half(observed.watched)),
        "draw_worth": mixing(phi).ess / phi.size,
    }


def judge(
    component: str,
    observed: Observed,
    full: Observed,
    trained: Trained,
    settings: SGLDConfig,
    limits: CalibrateConfig,
) -> Judgement:
    """All verdicts on one component; once a chain has diverged there is nothing else to judge."""
    nothing = {name: Verdict(float("nan"), float("nan"), None) for name in CRITERIA}
    stay = stays(observed, trained.loss, settings.runaway)
    if not stay.passed:
        return Judgement(component, nothing | {"stays": stay}, {}, observed.cost)
    phi, trace = second_half(observed.loss) - trained.loss, second_half(observed.trace)
    verdicts = {
        "stays": stay,
        "rises": rises(phi),
        "flattens": flattens(phi, limits),
        "agrees": agrees(phi, limits),
        "smooth": smooth(trace, phi, limits.max_jump),
        "signal": signal(phi, limits.min_signal),
        "local": local(phi, trained.gain, limits.max_rise, observed is full),
        "unbiased": unbiased(observed, settings, limits.max_bias),
    }
    found = figures(observed, trained, settings, limits.steps_between_draws)
    if observed is not full and stays(full, trained.loss, settings.runaway).passed:
        found["reliability"] = chi_reliability(observed, full, trained, "two-chain")
        found["reliability_covariance"] = chi_reliability(observed, full, trained, "covariance")
    return Judgement(component, verdicts, found, observed.cost)
