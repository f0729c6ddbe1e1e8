"""The sampler against closed forms."""

import math

import numpy as np
import pytest
import torch

from scale.config import SGLDConfig
from scale.sgld import Preconditioner, run_chain

DIMENSIONS = 20_000
CURVATURE = 2.0


def quadratic(weights: torch.Tensor) -> tuple[float, torch.Tensor]:
    """L = λ/2 |v|² with λ = `CURVATURE`, in every dimension on its own."""
    return 0.5 * CURVATURE * float(weights.square().mean()), CURVATURE * weights


def chain(settings: SGLDConfig, seed: int = 0, gradient: object = quadratic) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    trained = torch.zeros(DIMENSIONS, dtype=torch.float64)
    return run_chain(trained, gradient, settings, generator).offsets.numpy()  # type: ignore[arg-type]


def test_stationary_variance_is_that_of_the_discretised_chain() -> None:
    """v' = (1 - εh/2) v + sqrt(ε) η with h = nβλ + γ has variance 1 / (h (1 - εh/4)), not the posterior's 1/h."""
    settings = SGLDConfig(
        sampler="sgld", step_size=0.05, nbeta=5.0, localization=10.0, burn_in=60, draws=1, steps_between_draws=1
    )
    h = 5.0 * CURVATURE + 10.0
    expected = 1 / (h * (1 - 0.05 * h / 4))
    variance = float(chain(settings)[-1].var())
    error = expected * math.sqrt(2 / DIMENSIONS)
    assert abs(variance - expected) < 4 * error
    assert abs(variance - 1 / h) > 20 * error  # the step-size bias is seen


def test_consecutive_draws_decorrelate_as_they_should() -> None:
    """Correlation after s steps is (1 - εh/2)^s."""
    settings = SGLDConfig(
        sampler="sgld", step_size=0.02, nbeta=1.0, localization=18.0, burn_in=100, draws=2, steps_between_draws=5
    )
    first, second = chain(settings)
    expected = (1 - 0.02 * 20.0 / 2) ** 5
    assert abs(np.corrcoef(first, second)[0, 1] - expected) < 4 / math.sqrt(DIMENSIONS)


def test_the_quartic_reaches_its_second_moment() -> None:
    """p(v) ~ exp(-nβ v⁴/4 - γ v²/2) against quadrature; step size small enough for its bias to be below the noise."""
    nbeta, gamma = 8.0, 0.5
    grid = np.linspace(-6, 6, 20001)
    density = np.exp(-nbeta * grid**4 / 4 - gamma * grid**2 / 2)
    expected = float((grid**2 * density).sum() / density.sum())
    settings = SGLDConfig(
        sampler="sgld", step_size=0.002, nbeta=nbeta, localization=gamma, burn_in=3000, draws=1, steps_between_draws=1
    )

    def quartic(weights: torch.Tensor) -> tuple[float, torch.Tensor]:
        return 0.0, weights**3

    measured = float(np.square(chain(settings, gradient=quartic)[-1]).mean())
    assert measured == pytest.approx(expected, rel=0.03)
    gaussian = 1 / gamma
    assert abs(measured - gaussian) > 0.5 * gaussian  # without the quartic term it would be this


def test_the_preconditioner_follows_the_running_square() -> None:
    settings = SGLDConfig(rmsprop_decay=0.9, rmsprop_stability=0.5)
    preconditioner = Preconditioner(settings)
    first, second = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0])
    preconditioner.update(first)
    square = 0.9 * (0.1 * first**2) + 0.1 * second**2
    assert torch.allclose(torch.as_tensor(preconditioner.update(second)), 1 / (0.5 + square.sqrt()))


def test_a_preconditioned_chain_has_the_posterior_of_its_frozen_scale() -> None:
    """With constant gradients G is constant and the stationary variance is 1 / (γ (1 - εGγ/4)) about a shifted mean."""
    settings = SGLDConfig(
        step_size=0.05, nbeta=1.0, localization=10.0, burn_in=150, draws=1, steps_between_draws=1,
        rmsprop_decay=0.0, rmsprop_stability=0.1,
    )  # fmt: skip
    slope = 0.4

    def constant(weights: torch.Tensor) -> tuple[float, torch.Tensor]:
        return 0.0, torch.full_like(weights, slope)

    draw = chain(settings, gradient=constant)[-1]
    scale = 1 / (0.1 + slope)
    assert draw.mean() == pytest.approx(-slope / 10.0, abs=0.01)
    assert draw.var() == pytest.approx(1 / (10.0 * (1 - 0.05 * scale * 10.0 / 4)), rel=0.05)


def test_seeds_make_chains() -> None:
    settings = SGLDConfig(sampler="sgld", burn_in=2, draws=2, steps_between_draws=1)
    assert np.array_equal(chain(settings, 3), chain(settings, 3))
    assert not np.array_equal(chain(settings, 3), chain(settings, 4))


def test_a_gradient_that_is_not_finite_stops_the_chain_in_place() -> None:
    settings = SGLDConfig(sampler="sgld", burn_in=0, draws=3, steps_between_draws=1)

    def broken(weights: torch.Tensor) -> tuple[float, torch.Tensor]:
        return float("nan"), torch.full_like(weights, float("nan"))

    assert np.array_equal(chain(settings, gradient=broken), np.zeros((3, DIMENSIONS)))
