import numpy as np
import pytest

from eval.patterning import pattern
from scale.errors import UserError


@pytest.mark.parametrize("shape", [(80, 9), (9, 9), (7, 30)])
def test_equals_the_augmented_least_squares(shape):
    rng = np.random.default_rng(0)
    chi, target = rng.normal(size=shape), rng.normal(size=shape[1])
    ridge = 0.3
    stacked = np.concatenate([chi.T, np.sqrt(ridge) * np.eye(shape[0])])
    oracle = np.linalg.lstsq(stacked, np.concatenate([target, np.zeros(shape[0])]))[0]
    found = pattern(chi, target, ridge=ridge)
    np.testing.assert_allclose(found.weights, oracle, atol=1e-10)
    np.testing.assert_allclose(found.predicted, chi.T @ oracle, atol=1e-10)


def test_no_small_step_improves_the_objective():
    rng = np.random.default_rng(1)
    chi, target = rng.normal(size=(40, 6)), rng.normal(size=6)

    def objective(weights):
        return np.square(chi.T @ weights - target).sum() + 2.0 * np.square(weights).sum()

    weights = pattern(chi, target, ridge=2.0).weights
    steps = 1e-3 * rng.normal(size=(50, 40))
    assert min(objective(weights + step) for step in steps) > objective(weights)
    assert objective(weights) < objective(np.zeros(40))


def test_a_weak_ridge_reaches_the_target_and_a_strong_one_stays_still():
    rng = np.random.default_rng(2)
    chi, target = rng.normal(size=(200, 5)), rng.normal(size=5)
    np.testing.assert_allclose(pattern(chi, target, ridge=1e-8).predicted, target, atol=1e-6)
    assert np.abs(pattern(chi, target, ridge=1e8).predicted).max() < 1e-4


def test_mistakes_are_named():
    with pytest.raises(UserError, match="ridge must be above 0"):
        pattern(np.ones((3, 2)), np.ones(2), ridge=0.0)
    with pytest.raises(UserError, match="one entry per component"):
        pattern(np.ones((3, 2)), np.ones(3), ridge=1.0)
