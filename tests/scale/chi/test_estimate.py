"""Moments and estimators against plain numpy on stored traces."""

import numpy as np
import pytest

from scale.chi.estimate import Moments, assemble, column_correlation, reliability, spearman_brown

RNG = np.random.default_rng(0)
PHI, DELTA = 1e6 + RNG.normal(size=30), RNG.normal(size=(30, 7)) * 3 + 5e5


def run(order: np.ndarray, batch: int = 1) -> Moments:
    moments = Moments(7)
    for begin in range(0, len(order), batch):
        part = order[begin : begin + batch]
        moments.update(PHI[part], DELTA[part])
    return moments


def test_streaming_equals_stored_traces_far_from_the_origin() -> None:
    parts = run(np.arange(30)).result()
    exact = np.array([np.cov(PHI - 1e6, DELTA[:, t] - 5e5)[0, 1] for t in range(7)])
    assert np.allclose(parts.covariance, exact, atol=1e-7)
    assert np.allclose(parts.shift, DELTA.mean(axis=0))
    assert np.abs(exact).max() > 0.1


@pytest.mark.parametrize("batch", [4, 30])
def test_how_many_draws_come_at_once_changes_nothing(batch: int) -> None:
    one, many = run(np.arange(30)).result(), run(np.arange(30), batch).result()
    assert np.allclose(one.covariance, many.covariance, rtol=1e-7, atol=1e-8)
    assert np.allclose(one.shift, many.shift, rtol=1e-13)


def test_order_and_merging_change_nothing() -> None:
    whole = run(np.arange(30)).result()
    left, right = run(np.arange(29, 11, -1)), run(np.arange(12))
    left.merge(right)
    assert np.allclose(left.result().covariance, whole.covariance, rtol=1e-7, atol=1e-8)
    assert np.allclose(left.result().shift, whole.shift, rtol=1e-13)


def test_merging_with_nothing_is_the_identity() -> None:
    moments = run(np.arange(5))
    moments.merge(Moments(7))
    assert np.allclose(moments.result().covariance, run(np.arange(5)).result().covariance)
    empty = Moments(7)
    empty.merge(run(np.arange(5)))
    assert np.allclose(empty.result().shift, DELTA[:5].mean(axis=0))


def test_two_chain_is_the_expectation_form() -> None:
    """-{E[φ δ] - E[φ] E_full[δ]} with the unbiased covariance, when E_C[φ] is taken over the same draws."""
    phi, delta, full = RNG.normal(size=40), RNG.normal(size=(40, 3)), RNG.normal(size=3)
    covariance = ((phi - phi.mean())[:, None] * (delta - delta.mean(axis=0))).sum(axis=0) / 39
    chi = assemble(covariance[:, None], delta.mean(axis=0)[:, None], full, np.array([phi.mean()]), "two-chain")
    bias = covariance * 39 / 40 - covariance  # of E[φδ] - E[φ]E[δ] against the unbiased covariance
    direct = -((phi[:, None] * delta).mean(axis=0) - phi.mean() * full - bias)
    assert np.allclose(chi[:, 0], direct)
    only = assemble(covariance[:, None], delta.mean(axis=0)[:, None], full, np.array([phi.mean()]), "covariance")
    assert np.allclose(only[:, 0], -covariance)


def test_spearman_brown() -> None:
    assert spearman_brown(np.array([0.5, 0.0, -0.3, 1.0])) == pytest.approx([2 / 3, 0, 0, 1])


def test_reliability_sees_signal_and_only_signal() -> None:
    signal = RNG.normal(size=(20000, 2))
    noise = RNG.normal(size=(20000, 2, 2))
    halves = np.stack([signal, signal], axis=1) * np.array([1.0, 0.0]) + noise
    found = reliability(halves)
    assert found[0] == pytest.approx(2 / 3, abs=0.02)  # r = 1/2 between halves
    assert found[1] < 0.05


def test_a_constant_column_has_no_correlation() -> None:
    left = np.stack([np.ones(5), np.arange(5.0)], axis=1)
    found = column_correlation(left, left)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1)
