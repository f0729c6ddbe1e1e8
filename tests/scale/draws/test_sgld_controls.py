"""The two controls: no loss in the posterior, and noise that has the sizes of the draws and nothing else of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from scale.config import SGLDConfig
from scale.draws.sgld import Gradient, Langevin, sample

PARAMETERS = 1003
CURVATURE = torch.linspace(0.1, 9, PARAMETERS)
SETTINGS = SGLDConfig(step_size=0.01, nbeta=5.0, localization=4.0, burn_in=60, draws=30, steps_between_draws=3)


def quadratic(offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (CURVATURE * offsets.square()).mean(dim=1), CURVATURE * offsets


def sampled(settings: SGLDConfig, gradient: Gradient = quadratic) -> tuple[np.ndarray, torch.Tensor]:
    """Draws (draws, 2 chains, parameters), and where the chains end."""
    generators, kept = [torch.Generator().manual_seed(seed) for seed in (1, 2)], []
    langevin = Langevin(settings, PARAMETERS, generators, "cpu")
    sample(langevin, gradient, lambda index, draw: kept.append(draw.clone()))
    return torch.stack(kept).numpy(), langevin.offsets


@pytest.mark.parametrize("sampler", ["sgld", "rmsprop-sgld"])
def test_without_loss_gradients_are_not_read(sampler: str) -> None:
    settings = replace(SETTINGS, sampler=sampler, nbeta=0.0)  # type: ignore[arg-type]
    draws, _ = sampled(settings)
    nothing, not_finite = (torch.ones(2), torch.empty(0)), (torch.ones(2), torch.full((2, PARAMETERS), math.nan))
    assert np.array_equal(sampled(settings, lambda offsets: nothing)[0], draws)
    assert np.array_equal(sampled(settings, lambda offsets: not_finite)[0], draws)
    assert not np.array_equal(sampled(replace(settings, nbeta=1e-3))[0], draws)


@pytest.mark.parametrize(("sampler", "scale"), [("sgld", 1.0), ("rmsprop-sgld", 4.0), ("gaussian", 4.0)])
def test_without_loss_the_posterior_is_that_of_the_localisation(sampler: str, scale: float) -> None:
    """Variance 1/γ with the bias of the step εG, where G is 1, or 1/λ with λ the stability under `rmsprop-sgld`."""
    settings = replace(SETTINGS, sampler=sampler, nbeta=0.0, rmsprop_stability=0.25, draws=200, steps_between_draws=20)  # type: ignore[arg-type]
    draws, _ = sampled(settings)

    def error(scale: float, strength: float = 0.0) -> float:
        k, step = settings.localization + strength, settings.step_size * scale
        repeated = (1 - step * k / 2) ** (2 * settings.steps_between_draws)
        independent = draws.size * (1 - repeated) / (1 + repeated)
        return (float((draws.astype(float) ** 2).mean()) * k * (1 - step * k / 4) - 1) / math.sqrt(2 / independent)

    assert abs(error(scale)) < 4
    assert abs(error(4 / scale)) > 4
    assert abs(error(scale, strength=0.2)) > 4


def evidence(draws: np.ndarray) -> dict[str, float]:
    """p-values: stiff directions as long as soft ones; normal coordinates; successive draws and chains unrelated."""
    unit = draws / np.linalg.norm(draws, axis=-1, keepdims=True)
    stiff = (unit[..., PARAMETERS // 2 :] ** 2).sum(axis=-1).ravel()
    beta = stats.beta((PARAMETERS - PARAMETERS // 2) / 2, (PARAMETERS // 2) / 2)
    overlap = [*(unit[1:] * unit[:-1]).sum(axis=-1).ravel(), *(unit[:, 0] * unit[:, 1]).sum(axis=-1)]
    return {
        "stiff": stats.kstest(stiff, beta.cdf).pvalue,
        "normal": stats.kstest(unit.ravel() * math.sqrt(PARAMETERS), stats.norm.cdf).pvalue,
        "apart": stats.kstest(np.array(overlap) * math.sqrt(PARAMETERS), stats.norm.cdf).pvalue,
    }


def test_gaussian_draws_have_the_sizes_of_the_chain_and_nothing_else() -> None:
    noise, end = sampled(replace(SETTINGS, sampler="gaussian"))
    chain, chain_end = sampled(SETTINGS)
    sizes = np.linalg.norm(chain, axis=-1)
    assert torch.equal(end, chain_end)  # the chain beneath is left alone
    assert np.allclose(np.linalg.norm(noise, axis=-1), sizes, rtol=1e-5)
    assert sizes.std() > 0.005 * sizes.mean()  # draw by draw: were all sizes one, this would say nothing
    assert min(evidence(noise).values()) > 1e-3
    assert max(evidence(chain)[key] for key in ("stiff", "apart")) < 1e-6
