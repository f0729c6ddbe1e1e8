import numpy as np
import pytest

from aux.standardize import StandardizationAccumulator, standardize
from scale.errors import UserError


def susceptibilities(rows=400, components=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, components)) * np.logspace(-4, 3, components) + rng.normal(size=components) * 50


def test_matches_the_definition():
    chi = susceptibilities()
    scores = (chi - chi.mean(axis=0)) / chi.std(axis=0)
    result = standardize(chi)
    np.testing.assert_allclose(result.values, scores - scores.mean(axis=1, keepdims=True), atol=1e-10)
    np.testing.assert_allclose(result.mean, chi.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(result.std, chi.std(axis=0), rtol=1e-8)
    np.testing.assert_allclose(result.values.sum(axis=1), 0.0, atol=1e-12)


def test_unknown_scale_of_a_component_cancels():
    chi = susceptibilities()
    scaled = chi * np.logspace(-3, 3, chi.shape[1])
    np.testing.assert_allclose(standardize(scaled).values, standardize(chi).values, atol=1e-9)
    assert np.abs(standardize(-chi).values - standardize(chi).values).max() > 1


def test_shards_equal_one_pass():
    chi = susceptibilities().astype(np.float32)
    first, second = (StandardizationAccumulator(7).update(part) for part in (chi[:123], chi[123:]))
    np.testing.assert_allclose(second.merge(first).result()(chi), standardize(chi).values, atol=1e-10)


def test_constant_column_is_named():
    chi = susceptibilities()
    chi[:, 2] = -0.3
    with pytest.raises(UserError, match="column 2 is constant"):
        standardize(chi)
    names = [f"l0h{head}" for head in range(7)]
    with pytest.raises(UserError, match=r"column 2 \(l0h2\) is constant"):
        StandardizationAccumulator(names).update(chi).result()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_column_that_is_not_finite_is_named(value):
    chi = susceptibilities()
    chi[17, 4] = value
    with np.errstate(invalid="ignore"), pytest.raises(UserError, match="column 4 is not finite"):
        standardize(chi)


def test_too_few_rows_are_an_error():
    with pytest.raises(UserError, match="at least 2 rows"):
        standardize(np.ones((1, 3)))
    with pytest.raises(UserError, match="shape"):
        standardize(np.ones(3))
