"""Agreement of two estimators on made-up measurements whose agreement is known."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import t as student

from benchmarks.estimators.agreement import LEVEL, agreement, centred, fieller, products, with_others

CONTEXTS, TOKENS, FOUND, REFERENCE = 16, 40, 4, 8
#: The second signal is the first, and something that the first knows nothing of.
OTHER = 0.75
#: Variance of the first signal: between contexts and within.
VARIANCE = 0.25 + 1.0
SLOPE, CORRELATION = 1.0, (VARIANCE / (VARIANCE + OTHER**2)) ** 0.5


def measured(seed: int, shared: tuple[float, float], own: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Two estimators repeated. An error of draws is a random combination of features of the tokens: all contexts have
    it in common, and like tokens alike; another is proper to each context.
    """
    generator = np.random.default_rng(seed)
    signal = 0.5 * generator.standard_normal((CONTEXTS, 1)) + generator.standard_normal((CONTEXTS, TOKENS))
    second = signal + OTHER * generator.standard_normal(signal.shape)
    features = generator.standard_normal((CONTEXTS, TOKENS, 6))

    def repeated(truth: np.ndarray, count: int, common: float, alone: float) -> np.ndarray:
        weights = common * generator.standard_normal((count, 6)) / 6**0.5
        return (
            truth
            + np.einsum("ctk,rk->rct", features, weights)
            + alone * generator.standard_normal((count, *truth.shape))
        )

    return repeated(signal, FOUND, shared[0], own[0]), repeated(second, REFERENCE, shared[1], own[1])


NOISES = [((0.0, 0.0), (0.0, 0.0)), ((0.3, 1.0), (0.3, 1.0)), ((0.0, 0.0), (1.0, 3.0)), ((0.2, 2.0), (0.2, 2.0))]


@pytest.mark.parametrize(("shared", "own"), NOISES)
def test_intervals_hold_the_truth_as_often_as_they_say(shared: tuple[float, float], own: tuple[float, float]) -> None:
    """At 95 % of 400 the error of the count is 1.1 %; too wide is a lesser fault than too narrow."""
    held, trials = np.zeros(2), 400
    for seed in range(trials):
        found = agreement(*measured(seed, shared, own))
        for index, (one, truth) in enumerate(((found.slope, SLOPE), (found.correlation, CORRELATION))):
            held[index] += one.low <= truth <= one.high
    assert (held / trials >= 0.92).all(), held / trials
    assert (held / trials <= 0.995).all(), held / trials


def contexts_alone(found: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """The slope's interval if contexts were all that was drawn."""
    x, y = centred(found), centred(reference)
    terms = np.stack([products(x, y).mean(axis=(1, 2)), with_others(x).mean(axis=1)])
    quantile = float(student.ppf((1 + LEVEL) / 2, CONTEXTS - 1))
    return fieller(*terms.mean(axis=1), np.cov(terms) / CONTEXTS, quantile)


def test_without_the_errors_that_contexts_share_intervals_are_too_narrow() -> None:
    held, trials = 0, 200
    for seed in range(trials):
        low, high = contexts_alone(*measured(seed, (0.6, 3.0), (0.0, 0.0)))
        held += low <= SLOPE <= high
    assert held / trials < 0.8


def test_noise_alone_takes_nothing_from_the_agreement() -> None:
    """Over many trials, for any one is off by its own error."""
    quiet, noisy = ([agreement(*measured(seed, (a, b), (a, b))) for seed in range(200)] for a, b in ((0, 0), (0.3, 1)))
    for every in (quiet, noisy):
        assert np.mean([one.slope.value for one in every]) == pytest.approx(SLOPE, abs=0.03)
        assert np.mean([one.correlation.value for one in every]) == pytest.approx(CORRELATION, abs=0.04)
    assert all(one.reliability == pytest.approx(1) for one in quiet)
    # The mean of eight repetitions, whose noise has variance 1 + 1 beside a signal of 1.25 + 0.5625.
    signal = VARIANCE + OTHER**2
    told = np.mean([one.reference_reliability for one in noisy])
    assert told == pytest.approx(signal / (signal + 2 / REFERENCE), abs=0.05)


def test_a_bias_is_seen() -> None:
    found, reference = measured(3, (0.1, 0.3), (0.1, 0.3))
    halved = agreement(found, 0.5 * reference)
    assert halved.slope.high < 0.8
    assert halved.correlation.value == pytest.approx(agreement(found, reference).correlation.value)
    assert agreement(found, found[:, ::-1]).correlation.high < 0.6


def shuffled(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(0).permutation(CONTEXTS)
    return x[::-1][:, order], y[::-1][:, order]


def lifted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x + 7.0, y - np.arange(REFERENCE)[:, None, None]


@pytest.mark.parametrize("change", [shuffled, lifted])
def test_order_and_constants_do_not_matter(
    change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> None:
    both = measured(1, (0.3, 1.0), (0.3, 1.0))
    first, second = agreement(*both), agreement(*change(*both))
    for one, other in ((first.slope, second.slope), (first.correlation, second.correlation)):
        assert vars(one) == pytest.approx(vars(other))


def test_a_reference_of_noise_decides_nothing() -> None:
    found, _ = measured(0, (0.1, 0.1), (0.1, 0.1))
    unbounded = [
        agreement(found, np.random.default_rng(seed).standard_normal((REFERENCE, CONTEXTS, TOKENS))).correlation
        for seed in range(40)
    ]
    assert sum(np.isinf(one.low) and np.isinf(one.high) for one in unbounded) >= 36


def test_fieller_without_covariance_is_the_textbook_ratio() -> None:
    """For a denominator known exactly the interval is that of the numerator, divided."""
    low, high = fieller(2.0, 4.0, np.diag([0.25, 0.0]), 2.0)
    assert (low, high) == pytest.approx((0.25, 0.75))
    for end in fieller(2.0, 4.0, np.array([[0.25, 0.1], [0.1, 0.5]]), 2.0):
        assert (2.0 - 4.0 * end) ** 2 == pytest.approx(4.0 * (0.25 - 2 * 0.1 * end + 0.5 * end**2))
