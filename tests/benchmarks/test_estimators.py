"""The arithmetic of the yardstick: what it says of measurements whose truth is known."""

import numpy as np
import pytest

from benchmarks.estimators import Data, agreement, cost, estimators, ladder, points

CONTEXTS, ROWS = 40, 50
DATA = Data(np.zeros((3, 8), int), np.zeros((5, 8), int))


def halves(signal: np.ndarray, noise: float, seed: int) -> np.ndarray:
    return signal + noise * np.random.default_rng(seed).standard_normal((2, signal.size))


def test_noise_alone_takes_nothing_from_the_corrected_agreement() -> None:
    signal, other = np.random.default_rng(0).standard_normal((2, CONTEXTS * ROWS))
    found = agreement(halves(signal, 0.5, 1), halves(signal, 2.0, 2), CONTEXTS)
    assert found["correlation"][0] == pytest.approx(1, abs=0.1)
    assert found["slope"][0] == pytest.approx(1, abs=0.1)
    scaled = agreement(halves(signal, 0.5, 1), halves(0.5 * signal + other, 1.0, 2), CONTEXTS)
    assert scaled["correlation"][0] == pytest.approx(0.5 / 1.25**0.5, abs=0.1)
    assert scaled["slope"][0] == pytest.approx(0.5, abs=0.1)
    for value, low, high in (*found.values(), *scaled.values()):
        assert low < value < high
        assert high - low < 0.5


def test_costs_count_both_halves_and_the_sampling() -> None:
    every = estimators(300.0, 30.0, 16, len(DATA.reference))
    assert cost(every["gaussian-gradient"], 4, DATA, 2) == 2 * 4 * (3 * 5 + 2 * 3)
    steps = 4 * (60 + 2 * 8)
    assert cost(every["plain"], 4, DATA, 2) == steps * 3 * 4 + 2 * 4 * (5 + 3)
    assert ladder(32) == [2, 4, 8, 16, 32]


def test_what_a_reliability_costs_is_what_it_takes_to_reach_it() -> None:
    """At r the extrapolation by Spearman and Brown asks for nine times (1 - r) / r as much for 0.9."""
    settings, signal = estimators(300.0, 30.0, 16, 5)["gaussian-gradient"], np.random.default_rng(0).normal(size=4000)
    found = {part: halves(signal, 1.0, 3) for part in ("covariance", "shift")}
    for point in points("gaussian-gradient", settings, "l0h0", 4, found, DATA):
        assert point.pearson == pytest.approx(0.5, abs=0.05)
        assert point.cost_wanted / point.cost == pytest.approx(9, rel=0.2)
