"""Covariances under a Gaussian from gradients, against closed forms."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from scale.draws.gaussian import between, derivative, evaluated_at, normal, stratified

SIGMA, SIZE = 0.7, 5
GENERATOR = np.random.default_rng(3)
Function = Callable[[torch.Tensor], torch.Tensor]


def symmetric() -> torch.Tensor:
    matrix = torch.from_numpy(GENERATOR.standard_normal((SIZE, SIZE)))
    return matrix + matrix.T


A, B = symmetric(), symmetric()
SLOPE_F, SLOPE_G = (torch.from_numpy(GENERATOR.standard_normal(SIZE)) for _ in range(2))


def quadratic(slope: torch.Tensor, matrix: torch.Tensor) -> Function:
    return lambda x: x @ slope + 0.5 * (x * (x @ matrix)).sum(dim=-1)


def estimates(
    gradient: Function, g: Function, pairs: int, alphas: np.ndarray | None = None, step: float = 0.1
) -> np.ndarray:
    """One estimate of Cov(f, g) per pair of draws, float64; ``gradient`` is that of f."""
    chosen, found = stratified(pairs, GENERATOR) if alphas is None else alphas, []
    for k, alpha in enumerate(chosen):
        x, y = (SIGMA * normal(SIZE, 2 * k + i).double() for i in range(2))
        directions = [SIGMA**2 * gradient(sign * x) for sign in (1, -1)]
        z = between(x, y, float(alpha))
        values = g(evaluated_at([z, -z], directions, step)).numpy()
        lengths = np.array([[float(v.norm()) for v in directions]])
        found.append(derivative(values[None, :, None], lengths, step)[0, 0])
    return np.array(found)


def gradient_of_quadratic(slope: torch.Tensor, matrix: torch.Tensor) -> Function:
    return lambda x: slope + x @ matrix


def only_first(value: Function) -> Function:
    """A gradient that has the first coordinate alone."""
    return lambda x: torch.cat([value(x[:1]), torch.zeros(SIZE - 1, dtype=x.dtype)])


def standard_errors_away(found: np.ndarray, expected: float) -> float:
    return float(abs(found.mean() - expected) / (found.std(ddof=1) / len(found) ** 0.5))


def test_quadratic_functions() -> None:
    """Cov(f, g) = a'Σb + tr(AΣBΣ)/2. With Z = X it would be a'Σb + tr(AΣBΣ), with independent ends a'Σb."""
    f, g = gradient_of_quadratic(SLOPE_F, A), quadratic(SLOPE_G, B)
    first, second = float(SIGMA**2 * SLOPE_F @ SLOPE_G), float(SIGMA**4 * (A @ B).trace())
    found = estimates(f, g, 3000)
    assert standard_errors_away(found, first + second / 2) < 4
    for wrong in (first, first + second):
        assert standard_errors_away(found, wrong) > 8
    for alpha, expected in ((1.0, first + second), (0.0, first)):
        assert standard_errors_away(estimates(f, g, 3000, np.full(3000, alpha)), expected) < 4


def test_powers() -> None:
    """Cov(x², x⁴) = 12 σ⁶ and Cov(x, x³) = 3 σ⁴, of one coordinate."""
    even = estimates(only_first(lambda x: 2 * x), lambda x: x[..., 0] ** 4, 6000, step=0.01)
    odd = estimates(only_first(torch.ones_like), lambda x: x[..., 0] ** 3, 6000, step=0.01)
    assert standard_errors_away(even, 12 * SIGMA**6) < 4
    assert even.std() / 6000**0.5 < 0.1 * 12 * SIGMA**6
    assert standard_errors_away(odd, 3 * SIGMA**4) < 4


def test_linear_functions_need_one_draw() -> None:
    f, g = gradient_of_quadratic(SLOPE_F, 0 * A), quadratic(SLOPE_G, 0 * B)
    assert estimates(f, g, 1)[0] == pytest.approx(float(SIGMA**2 * SLOPE_F @ SLOPE_G), rel=1e-9)


def test_the_error_of_the_step_is_of_second_order() -> None:
    f = gradient_of_quadratic(SLOPE_F, A)

    def g(x: torch.Tensor) -> torch.Tensor:
        return (x**3).sum(dim=-1)

    exact, *off = (estimates(f, g, 1, np.array([0.5]), step)[0] for step in (1e-4, 0.1, 0.2))
    assert (off[1] - exact) / (off[0] - exact) == pytest.approx(4, rel=1e-3)


def test_a_direction_of_no_length_adds_nothing() -> None:
    points = evaluated_at([torch.ones(3), -torch.ones(3)], [torch.zeros(3), torch.zeros(3)], 0.1)
    assert torch.equal(points, torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]).expand(4, 3))


def test_strata_are_filled_once_each() -> None:
    found = stratified(40, np.random.default_rng(0))
    assert sorted((40 * found).astype(int)) == list(range(40))
    assert not np.array_equal(np.argsort(found), np.arange(40))
