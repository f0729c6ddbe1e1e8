"""Streamed statistics of χ's parts against plain numpy on all tokens at once."""

import numpy as np
import pytest

from scale.chi.estimate import assemble, reliability
from scale.chi.reliability import ROWS, PartMoments, PartStatistics

RNG = np.random.default_rng(0)
TOKENS, MEAN_PHI = ROWS + 500, np.array([0.3, 0.002, 2.0])
SIGNAL = RNG.normal(size=(TOKENS, 1, 3))
COVARIANCE = 0.01 * SIGNAL + RNG.normal(size=(TOKENS, 2, 3)) * np.array([0.005, 0.02, 0.01]) + 3
SHIFT = 0.5 * RNG.normal(size=(TOKENS, 1, 3)) - 0.1 * SIGNAL + 0.2 * RNG.normal(size=(TOKENS, 2, 3))
FULL = 1e3 + RNG.normal(size=(TOKENS, 1)) + 0.1 * RNG.normal(size=(TOKENS, 2))


def streamed(order: np.ndarray, size: int, merged: bool = False) -> PartStatistics:
    whole = PartMoments(3)
    for begin in range(0, len(order), size):
        rows = order[begin : begin + size]
        part = PartMoments(3) if merged else whole
        part.update(COVARIANCE[rows], SHIFT[rows], FULL[rows])
        if merged:
            whole.merge(part)
    return whole.result(MEAN_PHI)


def assert_same(found: PartStatistics, expected: PartStatistics) -> None:
    for name, values in vars(expected).items():
        assert np.allclose(getattr(found, name), values, rtol=1e-10, atol=1e-10), name


def test_they_are_those_of_all_tokens_at_once() -> None:
    found = streamed(np.arange(TOKENS), TOKENS)
    chi = assemble(COVARIANCE, SHIFT, FULL, MEAN_PHI, "two-chain")
    both = chi.mean(axis=1)
    first, second = -COVARIANCE.mean(axis=1), -MEAN_PHI * (SHIFT - FULL[..., None]).mean(axis=1)
    shared = [[np.cov(part[:, c], both[:, c])[0, 1] for c in range(3)] for part in (first, second)]
    shares = shared / both.var(axis=0, ddof=1)
    expected = PartStatistics(
        reliability(chi), reliability(COVARIANCE), reliability(SHIFT - FULL[..., None]), shares[0], shares[1]
    )
    assert_same(found, expected)
    assert np.allclose(found.share_covariance + found.share_shift, 1)
    assert found.share_shift[2] > 0.99  # E[φ] is large there,
    assert found.share_covariance[1] > 0.9  # and small here: the table says which part one looks at
    assert 0.1 < found.reliability_covariance.min() < found.reliability_covariance.max() < 0.95


@pytest.mark.parametrize(("size", "merged"), [(1, True), (7, True), (1000, False), (1000, True)])
def test_shards_order_and_merging_change_nothing(size: int, merged: bool) -> None:
    assert_same(streamed(RNG.permutation(TOKENS)[:TOKENS], size, merged), streamed(np.arange(TOKENS), TOKENS))


def test_a_column_without_values_is_unknown_and_spoils_no_other() -> None:
    moments, broken = PartMoments(3), COVARIANCE.copy()
    broken[:, :, 1] = np.nan
    moments.update(broken, SHIFT, FULL)
    found, whole = moments.result(MEAN_PHI), streamed(np.arange(TOKENS), TOKENS)
    assert np.isnan(found.reliability[1]) and np.isnan(found.share_shift[1])  # noqa: PT018
    assert np.allclose(found.reliability[[0, 2]], whole.reliability[[0, 2]])


def test_without_an_unrestricted_chain_the_covariance_is_still_judged() -> None:
    moments = PartMoments(3)
    moments.update(COVARIANCE, SHIFT, np.full_like(FULL, np.nan))
    found = moments.result(MEAN_PHI)
    assert np.allclose(found.reliability_covariance, reliability(COVARIANCE))
    assert np.isnan(found.reliability).all()


def test_a_constant_column_has_no_reliability() -> None:
    moments = PartMoments(3)
    moments.update(np.ones_like(COVARIANCE), SHIFT, FULL)
    found = moments.result(MEAN_PHI)
    assert np.isnan(found.reliability_covariance).all()
    assert np.allclose(found.share_shift, 1)
