"""Gradients carried along a chain, in one dimension and few: against closed forms and quadrature."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from scale.draws.tangent import Flow, Walkers, lags

Function = Callable[[torch.Tensor], torch.Tensor]
ROWS = 20_000


def normals(rows: int, width: int, seed: int) -> Callable[[], torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(rows, width, generator=generator, dtype=torch.float64)


class Chains:
    """Many chains side by side, and the estimator as it is used on a model."""

    def __init__(self, flow: Flow, slope: Function, width: int = 1, rows: int = ROWS) -> None:
        self.flow, self.slope = flow, slope
        self.noise = normals(rows, width, 7)
        self.walkers = flow.start(self.noise(), self.noise())

    def settle(self, steps: int) -> None:
        for _ in range(steps):
            self.walkers = self.flow.step(self.walkers, self.slope(self.walkers.points), self.noise())

    def covariance(self, slope_f: Function, slope_g: Function, starts: int = 2) -> tuple[float, float]:
        """Cov(f, g) and its standard error: in place of a lag drawn by its law, all of them weighted by it."""
        total, theta = torch.zeros(len(self.walkers.points)), self.flow.theta
        for _ in range(starts):
            carried = slope_f(self.walkers.points)
            self.settle(1)
            for lag in range(math.ceil(9 / theta)):
                worth = theta * (1 - theta) ** lag / self.flow.localization
                total = total + worth * (carried * slope_g(self.walkers.points)).sum(dim=1)
                self.walkers, carried = self.flow.carry(self.walkers, carried, self.noise(), self.slope)
        each = total / starts
        return float(each.mean()), float(each.std() / len(each) ** 0.5)


def by_quadrature(energy: Callable[[float], float], f: Callable[[float], float], g: Callable[[float], float]) -> float:
    def mean(value: Callable[[float], float]) -> float:
        top = quad(lambda x: value(x) * math.exp(-energy(x)), -9, 9, limit=500)[0]
        return float(top / quad(lambda x: math.exp(-energy(x)), -9, 9, limit=500)[0])

    return mean(lambda x: f(x) * g(x)) - mean(f) * mean(g)


@pytest.mark.parametrize(("h", "theta"), [(0.0, 0.9), (0.1, 0.5), (1.0, 0.5), (4.0, 0.2)])
def test_in_a_bowl_nothing_depends_on_the_step(h: float, theta: float) -> None:
    """The law's variance, Cov(x, x) and Cov(x², x²), with γ = 5, nβ = 2 and the loss h times as stiff as γ."""
    chains = Chains(Flow(5.0, 2.0, theta, 1e-4), lambda x: h * 5.0 / 2.0 * x)
    chains.settle(math.ceil(8 / theta))
    variance = 1 / (5.0 * (1 + h))
    assert float(chains.walkers.points.var()) == pytest.approx(variance, rel=4 * (2 / ROWS) ** 0.5)
    found, error = chains.covariance(torch.ones_like, torch.ones_like)
    assert found == pytest.approx(variance, rel=1e-4)
    assert error < 1e-4 * variance
    found, error = chains.covariance(lambda x: 2 * x, lambda x: 2 * x)
    assert found == pytest.approx(2 * variance**2, abs=4 * error)


def test_a_quadratic_in_many_dimensions() -> None:
    """Cov(a·x + x'Ax/2, b·x + x'Bx/2) = a'Σb + tr(AΣBΣ)/2 with Σ = (nβH + γ)⁻¹, which no Gaussian N(0, I/γ) gives."""
    generator = np.random.default_rng(2)
    width, gamma, nbeta = 4, 3.0, 4.0

    def symmetric() -> torch.Tensor:
        matrix = torch.from_numpy(generator.standard_normal((width, width)))
        return matrix + matrix.T

    matrix_f, matrix_g, root = symmetric(), symmetric(), symmetric() / 2
    slope_f, slope_g = (torch.from_numpy(generator.standard_normal(width)) for _ in range(2))
    bowl = root @ root
    spread = torch.linalg.inv(nbeta * bowl + gamma * torch.eye(width))

    def expected(sigma: torch.Tensor) -> float:
        return float(slope_f @ sigma @ slope_g + (matrix_f @ sigma @ matrix_g @ sigma).trace() / 2)

    chains = Chains(Flow(gamma, nbeta, 0.15, 1e-4), lambda x: x @ bowl, width)
    chains.settle(40)
    found, error = chains.covariance(lambda x: slope_f + x @ matrix_f, lambda x: slope_g + x @ matrix_g)
    assert found == pytest.approx(expected(spread), abs=4 * error)
    assert abs(expected(torch.eye(width).double() / gamma) - expected(spread)) > 20 * error


def quartic(x: float) -> float:
    return 0.1 * x**4


def quartic_slope(x: torch.Tensor) -> torch.Tensor:
    return 0.4 * x**3


def two_wells(x: float) -> float:
    """Wells at 0 and -2.5, quadratic far out."""
    return -math.log(math.exp(-(x**2)) + math.exp(-((x + 2.5) ** 2)))


def two_wells_slope(x: torch.Tensor) -> torch.Tensor:
    return 2 * x + 5 * torch.sigmoid(x**2 - (x + 2.5) ** 2)


CASES: list[tuple[Callable[[float], float], Function]] = [(quartic, quartic_slope), (two_wells, two_wells_slope)]


@pytest.mark.parametrize(("loss", "slope"), CASES, ids=["quartic", "two wells"])
def test_a_posterior_that_is_no_gaussian(loss: Callable[[float], float], slope: Function) -> None:
    """Cov(L, x²) and Cov(L, x + x²) by quadrature, nβ = 1 and γ = 1. The Gaussian of the localisation is far off,
    and so are gradients that are not carried but stay as they were."""
    chains = Chains(Flow(1.0, 1.0, 0.1, 1e-4), slope, rows=8 * ROWS)
    chains.settle(80)
    for g, slope_g in ((lambda x: x * x, lambda x: 2 * x), (lambda x: x + x * x, lambda x: 1 + 2 * x)):
        exact = by_quadrature(lambda x: loss(x) + x * x / 2, loss, g)
        gaussian = by_quadrature(lambda x: x * x / 2, loss, g)
        found, error = chains.covariance(slope, slope_g)
        still = float((slope(chains.walkers.points) * slope_g(chains.walkers.points)).mean())
        assert error < 0.04 * abs(exact)
        assert abs(found - exact) < 4 * error
        assert abs(gaussian - exact) > 0.5 * abs(exact)
        assert abs(still - exact) > 0.5 * abs(exact)


def test_curvature_is_that_of_the_loss_to_second_order() -> None:
    """One step of what is carried, against ∇²L u, and of the point, for L = Σ x⁵."""
    points = torch.tensor([[0.3, -0.2], [0.5, 0.9]], dtype=torch.float64)
    vectors, still = torch.tensor([[1.0, 2.0], [-3.0, 0.1]], dtype=torch.float64), torch.zeros(2, 2).double()
    off = []
    for reach in (1e-3, 1e-2, 2e-2):
        flow = Flow(2.0, 3.0, 0.1, reach)
        moved, found = flow.carry(Walkers(points, still), vectors, still, lambda x: 5 * x**4)
        exact = vectors - 0.1 / 2.0 * 3.0 / 0.9 * 20 * points**3 * vectors
        off.append(float((found - exact).abs().max()))
        assert torch.allclose(moved.points, 0.9 * points - 0.05 * 3.0 * 5 * points**4, atol=20 * reach**2)
    assert off[0] < 1e-5
    assert off[2] / off[1] == pytest.approx(4, rel=0.05)


def test_nothing_is_carried_on_from_nothing() -> None:
    zero = torch.zeros(2, 3)
    moved, carried = Flow(1.0, 1.0, 0.5, 0.1).carry(Walkers(torch.ones(2, 3), zero), zero, zero, lambda x: x)
    assert torch.equal(carried, zero)
    assert torch.equal(moved.points, torch.zeros(2, 3))


def test_two_steps_share_a_noise() -> None:
    flow, zero = Flow(2.0, 0.0, 0.5, 0.1), torch.zeros(1, 1)
    first = flow.step(Walkers(zero, zero), zero, torch.ones(1, 1))
    assert first.points.item() == pytest.approx(0.125**0.5)
    assert flow.step(first, zero, zero).points.item() == pytest.approx(1.5 * 0.125**0.5)


@pytest.mark.parametrize("theta", [0.1, 0.5])
def test_lags_have_the_geometric_law(theta: float) -> None:
    generator = np.random.default_rng(0)
    many = np.stack([lags(50, generator.random(), theta) for _ in range(400)])
    law = theta * (1 - theta) ** np.arange(200)
    for n in range(4):
        assert (many == n).mean() == pytest.approx(law[n], abs=0.01)
        assert (many[:, 3] == n).mean() == pytest.approx(law[n], abs=0.08)  # every one of them has it
    even = np.abs((many[:, :32] == 0).mean(axis=1) - theta)
    assert even.max() <= 2 / 32  # independent ones would be off by 3 / 32 in one set of twenty
    assert np.array_equal(lags(50, 0.3, theta)[:20], lags(20, 0.3, theta))
