"""Mixing of chains whose autocorrelation is known, and what is said when nothing can be."""

import numpy as np
import pytest

from scale.draws.diagnostics import chain_statistics, mixing

RNG = np.random.default_rng(0)


def autoregressive(correlation: float, chains: int, draws: int) -> np.ndarray:
    """x' = ρ x + sqrt(1 - ρ²) η: lag-1 correlation ρ, autocorrelation time (1 + ρ) / (1 - ρ)."""
    noise = RNG.normal(size=(chains, draws))
    values = noise.copy()
    for k in range(1, draws):
        values[:, k] = correlation * values[:, k - 1] + (1 - correlation**2) ** 0.5 * noise[:, k]
    return values


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("chains", [1, 4])
def test_a_known_autocorrelation(correlation: float, chains: int) -> None:
    draws = 20000 // chains
    found = mixing(5.0 + autoregressive(correlation, chains, draws))
    time = (1 + correlation) / (1 - correlation)
    assert found.lag1 == pytest.approx(correlation, abs=0.03)
    assert found.autocorrelation_time == pytest.approx(time, rel=0.15)
    assert found.ess == pytest.approx(chains * draws / time, rel=0.15)
    assert found.rhat == pytest.approx(1, abs=0.02)


def test_chains_that_disagree_and_one_that_drifts() -> None:
    apart = RNG.normal(size=(4, 200)) + np.arange(4)[:, None] * 3
    assert mixing(apart).rhat > 1.5
    drift = RNG.normal(size=(1, 200)) + np.linspace(0, 10, 200)
    assert mixing(drift).rhat > 1.5
    assert mixing(drift).autocorrelation_time > 20


@pytest.mark.parametrize(
    "losses",
    [
        np.ones((2, 50)),
        RNG.normal(size=(4, 3)),
        np.where(np.arange(50) == 3, np.nan, RNG.normal(size=(2, 50))),
        np.where(np.arange(50) == 3, np.inf, RNG.normal(size=(1, 50))),
        np.empty((0, 0)),
    ],
)
def test_what_cannot_be_told(losses: np.ndarray) -> None:
    assert all(np.isnan(value) for value in vars(mixing(losses)).values())


def test_a_single_chain_too_short_to_be_halved_still_has_an_autocorrelation() -> None:
    found = mixing(RNG.normal(size=(1, 6)))
    assert np.isnan(found.rhat)
    assert np.isfinite(found.autocorrelation_time)


def test_the_llc_and_its_standard_error_over_chains() -> None:
    phi = RNG.normal(size=(4, 30)) + np.array([1.0, 1.5, 2.0, 2.5])[:, None]
    found = chain_statistics(phi, nbeta=30.0)
    means = phi.mean(axis=1)
    assert found["llc"] == pytest.approx(30 * means.mean())
    assert found["llc_error"] == pytest.approx(30 * np.sqrt(np.square(means - means.mean()).sum() / 3 / 4))
    assert found["draws"] == 120
    assert found["tilt"] == pytest.approx(30 * phi.std())
    assert np.isnan(chain_statistics(phi[:1], 30.0)["llc_error"])
    assert np.isnan(chain_statistics(np.empty((0, 0)), 30.0)["llc"])
