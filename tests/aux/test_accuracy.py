import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from aux.accuracy import PearsonAccumulator, accuracy, noise_ceiling
from scale.chi.estimate import spearman_brown


def pairs(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(rows, 3)) * [1, 10, 0.1] + 1000.0
    return truth + rng.normal(size=(rows, 3)) * [0.5, 20, 0.01], truth


def test_equals_scipy_and_sklearn():
    prediction, truth = pairs()
    result = PearsonAccumulator(3).update(prediction, truth).result()
    for column in range(3):
        p, t = prediction[:, column], truth[:, column]
        assert result.pearson[column] == pytest.approx(stats.pearsonr(p, t).statistic, abs=1e-9)
        assert result.r2[column] == pytest.approx(r2_score(t, p), abs=1e-9)


def test_r2_sees_scale_and_offset_and_pearson_does_not():
    _, truth = pairs()
    result = PearsonAccumulator(3).update(2 * truth + 1, truth).result()
    np.testing.assert_allclose(result.pearson, 1.0)
    assert (result.r2 < 0).all()


def test_merge_equals_one_pass_and_constant_predictions_score_zero():
    prediction, truth = pairs()
    prediction[:, 1] = 4.0
    whole = PearsonAccumulator(3).update(prediction, truth).result()
    parts = [
        PearsonAccumulator(3).update(p, t)
        for p, t in zip(*(np.split(s, [9]) for s in (prediction, truth)), strict=True)
    ]
    merged = parts[1].merge(parts[0]).result()
    np.testing.assert_allclose(merged.pearson, whole.pearson, atol=1e-10)
    np.testing.assert_allclose(merged.r2, whole.r2, rtol=1e-8)
    assert whole.pearson[1] == 0.0


def clustered(rng, documents=60, tokens=20):
    """Truth and prediction whose agreement differs from document to document."""
    ids = np.repeat(np.arange(documents), tokens)
    shared = rng.normal(size=(documents, 2))[ids]
    truth = shared + rng.normal(size=shared.shape)
    return truth * 0.5 + shared * rng.normal(size=(documents, 1))[ids] * 0.3 + rng.normal(size=shared.shape), truth, ids


def test_interval_agrees_with_a_direct_bootstrap():
    prediction, truth, ids = clustered(np.random.default_rng(0))
    result = accuracy(prediction, truth, ids, bootstrap=3000, seed=0)
    rng = np.random.default_rng(1)
    direct = []
    for _ in range(1000):
        rows = np.concatenate([np.flatnonzero(ids == document) for document in rng.integers(0, 60, size=60)])
        direct.append(PearsonAccumulator(2).update(prediction[rows], truth[rows]).result().pearson)
    low, high = np.quantile(direct, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(result.pearson_low, low, atol=0.02)
    np.testing.assert_allclose(result.pearson_high, high, atol=0.02)
    assert result.mean_pearson == pytest.approx(result.pearson.mean())
    mean_low, mean_high = np.quantile(np.mean(direct, axis=1), [0.025, 0.975])
    assert (result.mean_pearson_low, result.mean_pearson_high) == pytest.approx((mean_low, mean_high), abs=0.02)


def test_interval_covers_the_population_value():
    population = PearsonAccumulator(2).update(*clustered(np.random.default_rng(0), 40_000)[:2]).result().pearson
    covered = []
    for seed in range(100):
        result = accuracy(*clustered(np.random.default_rng([1, seed])), bootstrap=300, seed=seed)
        covered.append((result.pearson_low <= population) & (population <= result.pearson_high))
    assert 0.88 <= np.mean(covered) <= 0.99


def test_resampling_follows_the_seed_and_offsets_do_not_matter():
    prediction, truth, ids = clustered(np.random.default_rng(0))
    first = accuracy(prediction, truth, ids, bootstrap=50, seed=0)
    again = accuracy(prediction + 1e5, truth - 1e6, ids + 7, bootstrap=50, seed=0)
    other = accuracy(prediction, truth, ids, bootstrap=50, seed=1)
    np.testing.assert_allclose(again.pearson_low, first.pearson_low, atol=1e-6)
    assert not np.array_equal(other.pearson_low, first.pearson_low)


@pytest.mark.parametrize("length", [1.0, 2.0])
def test_no_predictor_passes_the_ceiling_and_the_truth_reaches_it(length):
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(20_000, 3))
    noise = np.array([0.3, 1.0, 3.0])
    first, second = (signal + noise * rng.normal(size=signal.shape) for _ in range(2))
    judged = second if length == 1 else (first + second) / 2
    ceiling = noise_ceiling(first, second, length=length)
    np.testing.assert_allclose(ceiling, np.sqrt(1 / (1 + noise**2 / length)), atol=0.015)
    reached = PearsonAccumulator(3).update(signal, judged).result().pearson
    np.testing.assert_allclose(reached, ceiling, atol=0.015)
    assert (PearsonAccumulator(3).update(first, second).result().pearson < ceiling).all()


def test_spearman_brown_known_values_and_negative_reliability():
    assert spearman_brown(np.array([0.5, 0.0, 1.0]), 2) == pytest.approx([2 / 3, 0.0, 1.0])
    assert spearman_brown(spearman_brown(np.array([0.4]), 3), 1 / 3) == pytest.approx([0.4])
    first = np.random.default_rng(0).normal(size=(50, 1))
    assert noise_ceiling(first, -first, length=1.0) == pytest.approx([0.0])


def test_only_across_independent_draws_does_the_ceiling_bind():
    """A predictor that has learnt half of the error at its own draws passes the ceiling there and nowhere else."""
    rng = np.random.default_rng(0)
    signal, ids = rng.normal(size=(5000, 2)), np.arange(5000) // 50
    same, other = (signal + rng.normal(size=signal.shape) for _ in range(2))
    prediction = signal + (same - signal) / 2
    ceiling = noise_ceiling(same, other, length=1.0)
    assert (accuracy(prediction, same, ids, bootstrap=100, seed=0).pearson_low > ceiling + 0.1).all()
    assert (accuracy(prediction, other, ids, bootstrap=100, seed=0).pearson_high < ceiling).all()
