import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aux.moments import ColumnMoments, Moments, row_blocks


def rows_far_from_zero(rows=200, columns=5, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns)) * [1e-3, 1, 10, 1, 1] + 1e6


@given(st.lists(st.integers(0, 200), max_size=6), st.permutations(range(7)))
@settings(max_examples=25, deadline=None)
def test_any_cut_and_any_order_equal_numpy(cuts, order):
    X = rows_far_from_zero()
    blocks = np.split(X, sorted(cuts))
    full, columns = Moments(5), ColumnMoments(5)
    for index in order:
        if index < len(blocks):
            full.merge(Moments(5).update(blocks[index]))
            columns.merge(ColumnMoments(5).update(blocks[index]))
    scale = np.outer(X.std(axis=0), X.std(axis=0))
    np.testing.assert_allclose(full.covariance() / scale, np.cov(X.T, ddof=0) / scale, atol=1e-6)
    np.testing.assert_allclose(full.mean, X.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(columns.result().std, X.std(axis=0), rtol=1e-6)
    assert columns.result().count == full.count == 200


def test_both_kinds_agree_and_float32_input_is_summed_in_float64():
    X = rows_far_from_zero().astype(np.float32)
    both = Moments(5).update(X).columns(), ColumnMoments(5).update(X).result()
    np.testing.assert_allclose(both[0].std, both[1].std, rtol=1e-12)
    np.testing.assert_allclose(both[0].std, X.astype(np.float64).std(axis=0), rtol=1e-9)


def test_constant_columns_are_seen_despite_rounding():
    X = np.full((1001, 2), 0.1)
    X[:, 1] = np.random.default_rng(0).normal(size=1001)
    columns = ColumnMoments(2)
    for block in row_blocks(X, 10):
        columns.update(block)
    assert columns.result().constant().tolist() == [True, False]
    assert columns.result().scale()[0] == 1.0


def test_widths_must_agree():
    with pytest.raises(AssertionError):
        Moments(3).merge(Moments(4))
    with pytest.raises(AssertionError):
        ColumnMoments(3).update(np.ones((2, 4)))
