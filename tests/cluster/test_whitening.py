"""Whitening against one pass over all rows."""

import numpy as np
import numpy.typing as npt
import pytest

from cluster.whitening import Whitening, WhiteningAccumulator, whiten
from scale.errors import UserError

Dense = npt.NDArray[np.float64]


@pytest.fixture
def rows() -> Dense:
    rng = np.random.default_rng(0)
    return rng.standard_normal((500, 6)) @ rng.standard_normal((6, 6)) + 5


def test_whitened_rows_have_no_mean_and_unit_covariance(rows: Dense) -> None:
    white = whiten(rows).transform(rows)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(np.cov(white.T), np.eye(6), atol=1e-10)
    assert abs(np.cov(rows.T) - np.eye(6)).max() > 0.5


def test_blocks_and_merges_are_one_pass(rows: Dense) -> None:
    whole = whiten(rows)
    left, right = WhiteningAccumulator(6), WhiteningAccumulator(6)
    for block in np.array_split(rows[:130], 7):
        left.update(block)
    right.update(rows[130:])
    left.merge(WhiteningAccumulator(6))
    left.merge(right)
    for fitted in (left.result(), Whitening.fit_stream(np.array_split(rows, 9))):
        np.testing.assert_allclose(fitted.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(fitted.variances, whole.variances, rtol=1e-11)
        np.testing.assert_allclose(fitted.components, whole.components, atol=1e-10)


def test_a_large_common_shift_does_no_harm(rows: Dense) -> None:
    shifted = Whitening.fit_stream(np.array_split(rows + 1e6, 5))
    np.testing.assert_allclose(shifted.variances, whiten(rows).variances, rtol=1e-6)


def test_directions_without_variance_are_dropped(rows: Dense) -> None:
    deficient = np.column_stack([rows, rows[:, 0] + rows[:, 1]])
    noisy = (deficient + np.random.default_rng(1).standard_normal(deficient.shape) * 1e-6).astype(np.float32)
    for X in (deficient, noisy):
        fitted = whiten(X)
        assert fitted.components.shape == (6, 7)
        assert np.isfinite(fitted.transform(X)).all()
    assert whiten(noisy, rtol=0).components.shape == (7, 7)


def test_fewer_rows_than_dimensions() -> None:
    fitted = whiten(np.random.default_rng(2).standard_normal((5, 20)))
    assert fitted.components.shape == (4, 20)


def test_components_are_the_largest_and_their_signs_are_fixed(rows: Dense) -> None:
    fitted = whiten(rows, n_components=3)
    assert (np.diff(fitted.variances) < 0).all()
    np.testing.assert_array_equal(fitted.variances, whiten(rows).variances[:3])
    largest = np.abs(fitted.components).argmax(axis=1)
    assert (fitted.components[np.arange(3), largest] > 0).all()
    mirrored = whiten(-rows, n_components=3)
    np.testing.assert_allclose(mirrored.components, fitted.components, atol=1e-10)


def test_single_precision_in_single_precision_out(rows: Dense) -> None:
    single = rows.astype(np.float32)
    white = whiten(single).transform(single)
    assert white.dtype == np.float32
    np.testing.assert_allclose(white, whiten(rows).transform(rows), atol=1e-4)


def test_what_cannot_be_whitened_is_refused(rows: Dense) -> None:
    with pytest.raises(UserError, match="at least 2 rows"):
        whiten(rows[:1])
    with pytest.raises(UserError, match="all rows are the same"):
        whiten(np.ones((5, 3)))
    with pytest.raises(UserError, match="NaN"):
        whiten(np.array([[1.0, np.nan], [0.0, 1.0]]))
    with pytest.raises(UserError, match="at least one block"):
        Whitening.fit_stream([])
    with pytest.raises(UserError, match="6 columns"):
        WhiteningAccumulator(6).update(rows[:, :5])


def test_directions_are_scaled_to_the_variance_of_their_signal() -> None:
    """Columns without correlation, each a signal and noise whose shares are known."""
    rng = np.random.default_rng(3)
    rows = np.linalg.qr(rng.standard_normal((4000, 4)) - 0.01)[0] * 60 * np.array([4.0, 3.0, 2.0, 1.0])
    reliability = np.array([0.9, 0.1, 0.5, 0.0])
    plain = whiten(rows)
    columns = np.abs(plain.components).argmax(axis=1)
    assert columns.tolist() == [0, 1, 2, 3]
    fitted = plain.to_signal(reliability)
    variances = fitted.transform(rows).var(axis=0, ddof=1)
    np.testing.assert_allclose(variances, reliability * rows.var(axis=0, ddof=1), rtol=0.01, atol=0.01)
    np.testing.assert_allclose(variances, fitted.spread**2, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(plain.transform(rows) * fitted.spread, fitted.transform(rows), atol=1e-12)


def test_a_mixed_direction_has_the_mean_reliability_of_its_columns() -> None:
    rng = np.random.default_rng(4)
    common = rng.standard_normal((3000, 1))
    rows = np.hstack([common, common]) + 1e-3 * rng.standard_normal((3000, 2))
    fitted = whiten(rows, n_components=1)
    signal = fitted.to_signal(np.array([1.0, 0.5])).spread ** 2
    np.testing.assert_allclose(signal, 0.75 * fitted.variances, rtol=1e-3)


def test_left_as_they_are_rows_keep_their_distances(rows: Dense) -> None:
    turned = whiten(rows).to_variance().transform(rows)
    between = np.linalg.norm(rows[:50, None] - rows[None, :50], axis=2)
    np.testing.assert_allclose(np.linalg.norm(turned[:50, None] - turned[None, :50], axis=2), between, atol=1e-9)
    white = whiten(rows).transform(rows)
    assert np.abs(np.linalg.norm(white[:50, None] - white[None, :50], axis=2) - between).max() > 0.5


def test_nothing_reliable_is_refused(rows: Dense) -> None:
    with pytest.raises(UserError, match=r"cluster\.whitening: no column is known to be reliable"):
        whiten(rows).to_signal(np.zeros(6))
