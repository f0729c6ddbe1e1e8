"""The sampler against known posteriors.

With curvature k = nβ λ + γ one coordinate of the chain is x' = (1 - εk/2) x + sqrt(ε) η. Its stationary variance is
1 / (k (1 - εk/4)): the step inflates the posterior's 1/k by εk/4 and more. Every test is against the discretised chain,
within 4 standard errors, which follow from the number of independent coordinates and the known correlation of draws.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from scale.config import SGLDConfig
from scale.draws.sgld import Gradient, Langevin, sample

CHAINS = 4
ERRORS = 4.0  # standard errors; one fair test in 16,000 is outside
SETTINGS = SGLDConfig(
    sampler="sgld", step_size=0.02, nbeta=5.0, localization=4.0, burn_in=200, draws=40, steps_between_draws=3
)


def seeded(seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + chain) for chain in range(CHAINS)]


def draws_of(
    settings: SGLDConfig,
    gradient: Gradient,
    parameters: int,
    seed: int = 0,
    squares: torch.Tensor | None = None,
) -> torch.Tensor:
    """(draws, chains, parameters); ``squares`` is where V begins."""
    langevin = Langevin(settings, parameters, seeded(seed), "cpu", torch.float64)
    if squares is not None:
        langevin.restore(langevin.state() | {"squares": squares.expand(CHAINS, -1)})
    kept: list[torch.Tensor] = []
    sample(langevin, gradient, lambda index, draw: kept.append(draw.clone()))
    return torch.stack(kept)


def quadratic(curvature: torch.Tensor) -> Gradient:
    """L = Σ λ x²/2, each coordinate with its own λ."""

    def gradient(offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 0.5 * (curvature * offsets.square()).mean(dim=1), curvature * offsets

    return gradient


def effective_share(draws: int, correlation: float) -> float:
    """Independent draws per draw, for a mean over ``draws`` of an AR(1) series."""
    lags = np.arange(1, draws)
    return 1 / (1 + 2 * float(((1 - lags / draws) * correlation**lags).sum()))


def variance_error(draws: torch.Tensor, expected: float, correlation: float) -> float:
    """Mean square of ``draws`` (draws, ...) minus ``expected``, in standard errors.

    ``correlation`` is that of one coordinate in successive draws; squares of normal variables have its square.
    """
    independent = draws.numel() * effective_share(len(draws), correlation**2)
    return (float(draws.square().mean()) / expected - 1) / math.sqrt(2 / independent)


def stationary(settings: SGLDConfig, curvature: float, scale: float = 1.0) -> tuple[float, float]:
    """Variance, and correlation of successive draws, at G = ``scale``."""
    k, step = settings.nbeta * curvature + settings.localization, settings.step_size * scale
    return 1 / (k * (1 - step * k / 4)), (1 - step * k / 2) ** settings.steps_between_draws


@pytest.mark.parametrize("curvature", [0.0, 1.0, 4.0, 12.0])
def test_variance_is_that_of_the_discretised_chain(curvature: float) -> None:
    """Per cent that the step adds to the variance here: 2, 5, 14, 47."""
    draws = draws_of(SETTINGS, quadratic(torch.tensor(curvature)), 5000)
    expected, correlation = stationary(SETTINGS, curvature)
    assert abs(variance_error(draws, expected, correlation)) < ERRORS
    posterior = 1 / (SETTINGS.nbeta * curvature + SETTINGS.localization)
    assert variance_error(draws, posterior, correlation) > ERRORS  # the bias is seen


def plain_chain(drift: float, noise: float, curvature: float) -> torch.Tensor:
    """The same chain written out, with its drift and its noise multiplied by a factor."""
    k, step = SETTINGS.nbeta * curvature + SETTINGS.localization, SETTINGS.step_size
    generator, x, kept = torch.Generator().manual_seed(7), torch.zeros(8000, dtype=torch.float64), []
    for index in range(1, SETTINGS.total_steps + 1):
        eta = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x - drift * 0.5 * step * k * x + noise * math.sqrt(step) * eta
        if index > SETTINGS.burn_in and (index - SETTINGS.burn_in) % SETTINGS.steps_between_draws == 0:
            kept.append(x)
    return torch.stack(kept)


@pytest.mark.parametrize(
    ("drift", "noise", "right"), [(1, 1, True), (1, math.sqrt(2), False), (2, 1, False), (2, math.sqrt(2), False)]
)
def test_other_conventions_of_the_step_would_be_seen(drift: float, noise: float, right: bool) -> None:
    """Noise sqrt(2ε), drift ε, or both (the other convention of ε: the right posterior, another bias)."""
    for curvature in (1.0, 4.0):
        error = variance_error(plain_chain(drift, noise, curvature), *stationary(SETTINGS, curvature))
        assert (abs(error) < ERRORS) is right
        assert right or abs(error) > 2 * ERRORS


def test_covariance_of_an_anisotropic_posterior() -> None:
    """Σ = [K (1 - εK/4)]⁻¹ with K = nβ H + γ, H rotated, its eigenvalues a factor of 24 apart."""
    curvatures, copies = torch.tensor([0.5, 3.0, 12.0], dtype=torch.float64), 3000
    axes = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64))[0]
    hessian = axes @ torch.diag(curvatures) @ axes.T

    def gradient(offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        slope = (offsets.view(CHAINS, copies, 3) @ hessian).view(CHAINS, -1)
        return 0.5 * (offsets * slope).mean(dim=1), slope

    turned = draws_of(SETTINGS, gradient, 3 * copies).view(SETTINGS.draws, CHAINS, copies, 3) @ axes
    variances, correlations = zip(*(stationary(SETTINGS, float(c)) for c in curvatures), strict=True)
    for i in range(3):
        assert abs(variance_error(turned[..., i], variances[i], correlations[i])) < ERRORS
        for j in range(i):
            product = (turned[..., i] * turned[..., j]) / math.sqrt(variances[i] * variances[j])
            independent = product.numel() * effective_share(len(product), correlations[i] * correlations[j])
            assert abs(float(product.mean())) < ERRORS / math.sqrt(independent)


def test_minibatches_add_their_own_variance() -> None:
    """Gradient noise of variance s² adds ε(nβ s)²/4 to the noise of a step, in units of ε."""
    data = torch.rand(50, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    data, batch, curvature, parameters = 6 * (data - data.mean()), 4, 2.0, 2000
    generators = seeded(1)

    def gradient(offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """λ (x - c)²/2 over a minibatch of data c, for every coordinate a minibatch of its own."""
        chosen = [torch.randint(len(data), (parameters, batch), generator=g) for g in generators]
        centre = torch.stack([data[index].mean(dim=1) for index in chosen])
        return torch.zeros(CHAINS), curvature * (offsets - centre)

    langevin, kept = Langevin(SETTINGS, parameters, generators, "cpu", torch.float64), []
    sample(langevin, gradient, lambda index, draw: kept.append(draw.clone()))
    variance, correlation = stationary(SETTINGS, curvature)
    spread = SETTINGS.nbeta * curvature * float(data.std(correction=0)) / math.sqrt(batch)
    added = 1 + SETTINGS.step_size * spread**2 / 4
    assert added > 1.1
    assert abs(variance_error(torch.stack(kept), added * variance, correlation)) < ERRORS
    assert variance_error(torch.stack(kept), variance, correlation) > 3 * ERRORS


def test_a_fixed_preconditioner_multiplies_the_step() -> None:
    """With V held still, the chain is that of the step εG: same posterior, another bias."""
    settings = replace(SETTINGS, sampler="rmsprop-sgld", rmsprop_decay=1 - 1e-13, rmsprop_stability=0.2)
    scales, forgotten, copies, curvature = (0.25, 1.0, 3.0), (1.0, 3.0, 1.0), 2500, 3.0
    squares = torch.tensor([(1 / g - 0.2) ** 2 for g in scales], dtype=torch.float64).repeat_interleave(copies)
    draws = draws_of(replace(settings, burn_in=300), quadratic(torch.tensor(curvature)), 3 * copies, squares=squares)
    for part, scale, other in zip(draws.split(copies, dim=-1), scales, forgotten, strict=True):
        assert abs(variance_error(part, *stationary(settings, curvature, scale))) < ERRORS
        assert abs(variance_error(part, *stationary(settings, curvature, other))) > ERRORS or other == scale


@pytest.mark.parametrize(("curvature", "scale"), [(0.5, 1.0), (4.0, 1.0), (1.0, 0.5)])
def test_autocorrelation_time_is_as_predicted(curvature: float, scale: float) -> None:
    """n Var(mean of n steps) / Var(x) of an AR(1) series with ρ = 1 - εGk/2: (1 + ρ)/(1 - ρ), less an end term.

    The means of different coordinates are independent and normal, so that the standard error is exact.
    """
    steps, parameters = 60, 3000
    settings = replace(SETTINGS, steps_between_draws=1, draws=steps, rmsprop_decay=1 - 1e-13, rmsprop_stability=0.2)
    squares = None
    if scale != 1:
        settings = replace(settings, sampler="rmsprop-sgld", burn_in=400)
        squares = torch.full((parameters,), (1 / scale - 0.2) ** 2, dtype=torch.float64)
    draws = draws_of(settings, quadratic(torch.tensor(curvature)), parameters, squares=squares)
    variance, rho = stationary(settings, curvature, scale)
    expected = (1 + rho) / (1 - rho) - 2 * rho * (1 - rho**steps) / (steps * (1 - rho) ** 2)
    assert abs(variance_error(draws.mean(dim=0)[None], expected * variance / steps, 0.0)) < ERRORS
    assert abs(variance_error(draws.mean(dim=0)[None], variance / steps, 0.0)) > 3 * ERRORS  # were steps independent


def discretised_second_moment(step: float, force: Callable[[np.ndarray], np.ndarray]) -> float:
    """E[x²] of the stationary density of x' = x - (ε/2) f(x) + sqrt(ε) η, from its transition kernel on a grid."""
    grid = np.linspace(-2.5, 2.5, 501)
    kernel = np.exp(-((grid[:, None] - (grid - step / 2 * force(grid))[None, :]) ** 2) / (2 * step))
    values, vectors = np.linalg.eig(kernel / kernel.sum(axis=0))
    density = np.abs(np.real(vectors[:, np.argmax(np.real(values))]))
    return float((grid**2 * density).sum() / density.sum())


def test_the_quartic_reaches_its_second_moment() -> None:
    """p(x) ~ exp(-nβ x⁴/4 - γ x²/2), at two steps: the chain's own moment, and the posterior's by extrapolation.

    The bias is linear in ε (0.6 % at 0.02, 1.3 % at 0.04), and twice the moment at ε minus that at 2ε is free of it.
    """
    nbeta, gamma, steps = 8.0, 0.5, (0.02, 0.04)
    settings = replace(SETTINGS, nbeta=nbeta, localization=gamma, burn_in=300, draws=100, steps_between_draws=10)
    grid = np.linspace(-4, 4, 20001)
    density = np.exp(-nbeta * grid**4 / 4 - gamma * grid**2 / 2)
    posterior = float((grid**2 * density).sum() / density.sum())
    chains = [discretised_second_moment(step, lambda x: nbeta * x**3 + gamma * x) for step in steps]
    assert 2 * chains[0] - chains[1] == pytest.approx(posterior, rel=0.002)
    assert chains[1] > 1.01 * posterior

    found, errors = [], []
    for step, expected in zip(steps, chains, strict=True):
        settings = SGLDConfig(
            sampler="sgld",
            step_size=step,
            nbeta=nbeta,
            localization=gamma,
            burn_in=300,
            draws=100,
            steps_between_draws=10,
        )
        draws = draws_of(settings, lambda offsets: (torch.zeros(CHAINS), offsets * offsets.square()), 2000, seed=2)
        means = draws.square().mean(dim=0).flatten()  # of coordinates that know nothing of one another
        found.append(float(means.mean()))
        errors.append(float(means.std()) / math.sqrt(len(means)))
        assert abs(found[-1] - expected) < ERRORS * errors[-1]
    extrapolated, error = 2 * found[0] - found[1], math.hypot(2 * errors[0], errors[1])
    assert abs(extrapolated - posterior) < ERRORS * error
    assert found[1] - posterior > ERRORS * errors[1]  # without extrapolation the bias is seen
    assert 1 / gamma - posterior > 100 * error  # what it would be without the quartic term
