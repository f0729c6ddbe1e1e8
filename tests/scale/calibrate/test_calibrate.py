"""Every criterion on traces whose truth is known, and the step-size bias on a bowl of known curvature."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scale.calibrate.criteria import (
    CRITERIA,
    Observed,
    Trained,
    agrees,
    flattens,
    judge,
    rises,
    signal,
    smooth,
    step_bias,
)
from scale.calibrate.traces import autocorrelation_time, drift, gap, largest_jump
from scale.calibrate.trial import Watch, preconditioner
from scale.config import CalibrateConfig, SGLDConfig
from scale.draws.sgld import Langevin

LIMITS = CalibrateConfig()
SETTINGS = SGLDConfig(sampler="sgld", step_size=1e-3, nbeta=30.0, localization=300.0)
CHAINS, STEPS, DRAWS, TOKENS, PARAMETERS = 4, 80, 40, 300, 50
TRAINED = Trained(2.0, np.linspace(1, 3, TOKENS), math.log(4096) - 2.0)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def ar1(correlation: float, *shape: int, seed: int = 0) -> np.ndarray:
    """Stationary, of variance 1; autocorrelation time (1 + ρ) / (1 - ρ)."""
    series = noise(*shape, seed=seed)
    for t in range(1, shape[-1]):
        series[..., t] = correlation * series[..., t - 1] + math.sqrt(1 - correlation**2) * series[..., t]
    return series


def healthy(rise: float = 0.2, seed: int = 0) -> Observed:
    """Chains that rise at once and stay there; half of every probe token's loss is a response that all chains share."""
    response = 0.1 * noise(TOKENS, seed=99)
    watched = 0.05 * ar1(0.6, 32, CHAINS, STEPS, seed=seed + 3)
    square = PARAMETERS / SETTINGS.localization * np.ones((CHAINS, STEPS))
    loss = TRAINED.loss + rise + 0.02 * noise(CHAINS, DRAWS, seed=seed)
    probe = TRAINED.probe + rise + response + 0.2 * noise(CHAINS, DRAWS // 2, TOKENS, seed=seed + 1)
    trace = TRAINED.loss + rise + 0.3 * noise(CHAINS, STEPS, seed=seed + 2)
    return Observed(trace, loss, probe, 0.1 * square, square, watched, np.ones((CHAINS, 32)), PARAMETERS, 1e6)


def verdicts(observed: Observed, settings: SGLDConfig = SETTINGS) -> dict[str, bool | None]:
    """Beside a healthy chain of the full model."""
    found = judge("l0h0", observed, healthy(seed=50), TRAINED, settings, LIMITS)
    return {name: verdict.passed for name, verdict in found.verdicts.items()}


def with_loss(change: np.ndarray | float) -> Observed:
    return replace(healthy(), loss=healthy().loss + change)


def late(*values: float) -> np.ndarray:
    """Something that happens to the losses of the second half, chain by chain."""
    return np.array(values)[:, None] * (np.arange(DRAWS) >= DRAWS // 2)


SPIKE = np.zeros((CHAINS, STEPS))
SPIKE[1, 60] = 12.0
RAMP = np.linspace(-0.5, 0.5, DRAWS)
FAILING = {
    "stays": with_loss(late(0, 0, 20, 0)),
    "rises": with_loss(late(0, 0, 0, -0.3)),
    "flattens": with_loss(0.5 * RAMP),
    "agrees": with_loss(late(0, 0, 0, -0.19)),
    "smooth": replace(healthy(), trace=healthy().trace + SPIKE),
    "signal": replace(healthy(), loss=TRAINED.loss + 0.01 + 0.3 * noise(CHAINS, DRAWS)),
    "local": healthy(rise=0.6 * TRAINED.gain),
    "unbiased": replace(healthy(), scale=np.full((CHAINS, 32), 10.0)),
}


def test_a_healthy_chain_passes_everything() -> None:
    assert verdicts(healthy()) == dict.fromkeys(CRITERIA, True)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_each_criterion_fails_where_it_should(criterion: str) -> None:
    found = verdicts(FAILING[criterion])
    assert found[criterion] is False
    others = {name for name, passed in found.items() if passed is False} - {criterion}
    allowed = {"rises": {"agrees", "signal"}, "agrees": {"signal"}, "signal": {"rises"}}
    assert others <= allowed.get(criterion, set())


def test_a_diverged_chain_is_judged_by_nothing_else() -> None:
    broken = healthy().loss.copy()
    broken[2, 5:] = np.nan
    found = judge("l0h0", replace(healthy(), loss=broken), healthy(), TRAINED, SETTINGS, LIMITS)
    assert found.failed == ["stays"]
    assert found.verdicts["stays"].value == math.inf
    assert all(verdict.passed is None for name, verdict in found.verdicts.items() if name != "stays")
    assert found.figures == {}


def test_a_chain_that_never_leaves_the_trained_weights() -> None:
    """All chains stuck there, or one of them."""
    stuck = np.full((CHAINS, DRAWS), 0.0)
    assert not rises(stuck).passed
    assert not signal(stuck, LIMITS.min_signal).passed
    assert not agrees(stuck, LIMITS).passed
    one = healthy().loss - TRAINED.loss
    one[0] = 0.0
    assert not rises(one).passed
    assert not agrees(one, LIMITS).passed


def test_the_full_model_and_a_model_that_knows_nothing_are_not_judged_by_how_far_they_go() -> None:
    far = healthy(rise=0.6 * TRAINED.gain)
    assert judge("full", far, far, TRAINED, SETTINGS, LIMITS).verdicts["local"].passed is None
    ignorant = replace(TRAINED, gain=-1.0)
    assert judge("l0h0", far, healthy(), ignorant, SETTINGS, LIMITS).verdicts["local"].passed is None


def test_verdicts_worsen_with_what_they_measure() -> None:
    flat = noise(CHAINS, DRAWS) * 0.02 + 0.2
    drifts = [flattens(flat + size * RAMP, LIMITS).value for size in (0.0, 0.05, 0.2, 0.8)]
    assert drifts == sorted(drifts)
    gaps = [gap(flat + size * np.eye(CHAINS)[3][:, None]) for size in (0.05, 0.1, 0.3, 1.0)]
    assert gaps == sorted(gaps)
    jumps = [largest_jump(flat + size * (np.arange(DRAWS) == 30)) for size in (0.2, 0.5, 1.0)]
    assert jumps == sorted(jumps)
    signals = [signal(flat * 0 + size * (flat - 0.2) + 0.2, 5.0).value for size in (4.0, 2.0, 1.0)]
    assert signals == sorted(signals)


def test_noise_alone_is_rarely_taken_for_a_fault() -> None:
    """200 sets of flat, agreeing chains, white and correlated; and the control: with a slope nearly all are caught."""
    for correlation in (0.0, 0.7):
        series = [0.2 + 0.05 * ar1(correlation, CHAINS, 20, seed=seed) for seed in range(200)]
        assert sum(not flattens(s, LIMITS).passed for s in series) <= 6
        assert sum(not agrees(s, LIMITS).passed for s in series) <= 6
        assert sum(not smooth(s, s, LIMITS.max_jump).passed for s in series) <= 6
    sloped = [0.2 + 0.02 * ar1(0.0, CHAINS, 20, seed=seed) + np.linspace(-0.1, 0.1, 20) for seed in range(200)]
    assert sum(not flattens(s, LIMITS).passed for s in sloped) >= 190


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8, 0.95])
def test_the_autocorrelation_time_of_ar1(correlation: float) -> None:
    expected = (1 + correlation) / (1 - correlation)
    assert autocorrelation_time(ar1(correlation, 50, 4, 5_000)) == pytest.approx(expected, rel=0.1)


def test_short_chains_know_it_too_when_many_coordinates_are_pooled() -> None:
    """20 steps of 2 chains with an autocorrelation time of 13: each alone, about its own mean, would say half of it."""
    series = ar1(13 / 15 - 1 / 105, 4096, 2, 20)
    assert autocorrelation_time(series) == pytest.approx(13, rel=0.1)
    alone = autocorrelation_time(series.reshape(8192, 1, 20))
    assert alone < 0.6 * 13


def test_the_slope_and_its_error() -> None:
    time = np.linspace(-1, 1, 50)
    assert drift(np.tile(3 * time, (4, 1)))[0] == pytest.approx(6)
    found = np.array([drift(ar1(0.5, 4, 50, seed=seed)) for seed in range(400)])
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.25)


def test_times_do_not_depend_on_scale_or_order() -> None:
    series = ar1(0.6, 8, 3, 40)
    assert autocorrelation_time(7 * series[::-1, ::-1] + 5) == pytest.approx(autocorrelation_time(series))
    assert math.isnan(autocorrelation_time(np.ones((3, 10))))


class Bowl:
    """L = λ/2 |x|², every chain on its own."""

    def __init__(self, curvature: float) -> None:
        self.curvature = curvature

    def __call__(self, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.curvature / 2 * offsets.square().sum(dim=1), self.curvature * offsets


def in_a_bowl(settings: SGLDConfig, curvature: float, parameters: int = 4000, steps: int = 200) -> Observed:
    generators = [torch.Generator().manual_seed(seed) for seed in range(CHAINS)]
    langevin = Langevin(settings, parameters, generators, "cpu", torch.float64)
    watch = Watch(Bowl(curvature), torch.arange(100))
    for _ in range(steps):
        langevin.step(watch)
    losses = TRAINED.loss + langevin.losses.numpy()
    group = type("Group", (), {"settings": settings, "langevin": langevin, "keys": range(CHAINS)})()
    scale = preconditioner(group, torch.arange(100))
    arrays = np.stack(watch.push, 1), np.stack(watch.square, 1), np.stack(watch.watched).transpose(2, 1, 0)
    probe = np.zeros((CHAINS, steps // 2, TOKENS))
    return Observed(losses, losses, probe, *arrays, scale, parameters, 1.0)


@pytest.mark.parametrize("step_size", [2e-4, 5e-4, 1e-3])
def test_the_bias_of_a_step_is_what_the_bowl_says_and_what_the_chain_does(step_size: float) -> None:
    """H = γ + nβλ; variance 1 / (H (1 - εH/4)) instead of 1/H, seen in the chain's size and time."""
    curvature, settings = 10.0, replace(SETTINGS, step_size=step_size)
    stiff = settings.localization + settings.nbeta * curvature
    expected = 1 / (1 - step_size * stiff / 4) - 1
    observed = in_a_bowl(settings, curvature)
    found = judge("bowl", observed, observed, TRAINED, replace(settings, runaway=1e6), LIMITS)
    assert found.figures["stiffness"] == pytest.approx(stiff, rel=1e-9)
    assert found.verdicts["unbiased"].value == pytest.approx(expected, rel=1e-6)
    assert found.verdicts["unbiased"].passed == (expected <= LIMITS.max_bias)
    assert found.figures["excess"] == pytest.approx(expected, abs=0.01)
    rate = step_size * stiff / 2
    assert found.figures["weights_time"] == pytest.approx((2 - rate) / rate, rel=0.25)


def test_the_bias_of_a_preconditioned_chain_counts_its_scale() -> None:
    """Without a loss in the posterior G is 1/λ everywhere."""
    settings = replace(SETTINGS, sampler="rmsprop-sgld", nbeta=0.0, step_size=1e-4)
    observed = in_a_bowl(settings, 10.0)
    expected = 1 / (1 - 1e-4 * 10 * 300 / 4) - 1
    assert step_bias(1e-4, observed.scale, 300.0) == pytest.approx(expected)
    found = judge("bowl", observed, observed, TRAINED, replace(settings, runaway=1e6), LIMITS)
    assert found.figures["excess"] == pytest.approx(expected, abs=0.01)


def test_a_step_beyond_stability_has_no_bias_to_state() -> None:
    assert step_bias(0.5, np.array([1.0, 0.1]), 8.0) == math.inf
    assert step_bias(0.499, np.array([1.0, 0.1]), 8.0) < math.inf
    biases = [step_bias(step, np.ones(3), 8.0) for step in (0.01, 0.03, 0.1, 0.3)]
    assert biases == sorted(biases)


def test_reliability_is_that_of_the_response_all_chains_share() -> None:
    """Tokens that respond alike in both halves, and the control: responses that are noise.

    Responses of variance 0.1² and, in 40 draws a half, noise of 0.2² / 40: a correlation of 1 / 1.1, doubled by
    Spearman and Brown.
    """
    background = healthy(seed=50)
    background = replace(background, probe=background.probe * 0 + TRAINED.probe)
    found = judge("l0h0", healthy(), background, TRAINED, SETTINGS, LIMITS).figures
    assert found["reliability"] == pytest.approx(2 / 2.1, abs=0.03)
    assert found["reliability_covariance"] < 0.6
    unresponsive = replace(healthy(), probe=TRAINED.probe + 0.2 + 0.2 * noise(CHAINS, DRAWS // 2, TOKENS))
    assert judge("l0h0", unresponsive, background, TRAINED, SETTINGS, LIMITS).figures["reliability"] < 0.4
