"""Tokens whose susceptibilities, activations and predictions are known, with a leak of any size between them."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from eval.config import LeakageConfig
from eval.jaccard import jaccard_knn
from eval.leakage import GAP, GAP_NOISELESS, NOISELESS, Comparison, Sides
from eval.support import cluster_support
from eval.verdict import verdicts

CONFIG = LeakageConfig(k=20, groups=10, bootstrap=200)
DOCUMENTS, PER_DOCUMENT, WIDTH, COORDINATES = 30, 50, 20, 6


def made(leak: float, noise: float = 0.5, seed: int = 0) -> tuple[Sides, np.ndarray]:
    """Sides and activations. The signal owes nothing to the activations but for one weak direction.

    The prediction is the signal, of which a share `leak` is replaced by a projection of the activations.
    """
    rng = np.random.default_rng(seed)
    rows = DOCUMENTS * PER_DOCUMENT
    activations = rng.normal(size=(rows, WIDTH))
    signal = rng.normal(size=(rows, COORDINATES))
    signal[:, 0] += 0.5 * activations[:, 0]
    projected = activations @ rng.normal(size=(WIDTH, COORDINATES)) / np.sqrt(WIDTH)
    measured = signal[:, None] + noise * rng.normal(size=(rows, 2, COORDINATES))
    predicted = (1 - leak) * signal + leak * projected
    return Sides(measured, predicted, np.repeat(np.arange(DOCUMENTS), PER_DOCUMENT)), activations


def figures(sides, activations, config=CONFIG):
    rows = Comparison(sides, config).rows("activations", 2, activations)
    assert {(row["input"], row["layer"]) for row in rows} == {("activations", 2)}
    return rows, {(row["metric"], row["versus"]): row for row in rows}


@pytest.fixture(scope="module")
def curve():
    return [figures(*made(leak)) for leak in (0.0, 0.3, 0.6, 1.0)]


def test_support_falls_with_the_leak():
    """Clusters of predictions: of the signal they are close in ground truth, of activations they are not."""
    shares = []
    for leak in (0.0, 0.5, 0.8, 1.0):
        sides, _ = made(leak)
        labels = KMeans(15, n_init=1, random_state=0).fit_predict(sides.predicted)
        first, second = (sides.measured[:, half] for half in range(2))
        table = cluster_support(first, labels, second=second, permutations=999)
        shares.append((table["p_corrected"].to_numpy() < 0.05).mean())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    assert shares[-1] <= 0.2


@pytest.mark.parametrize("key", [("debiased cka", GAP_NOISELESS), ("cka", GAP), ("jaccard", GAP)])
def test_the_gap_rises_with_the_leak(curve, key):
    values = [found[key]["value"] for _, found in curve]
    assert values == sorted(values)
    assert curve[-1][1][key]["low"] > curve[0][1][key]["high"]


def test_no_leak_is_said_and_a_leak_is_said(curve):
    status = [verdicts(rows)["activations"].status for rows, _ in curve]
    assert status[0] == "not visible"
    assert status[1:] == ["visible"] * 3
    sentence = verdicts(curve[-1][0])["activations"].sentence
    gap = curve[-1][1]["debiased cka", GAP_NOISELESS]
    assert f"gap {gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}] at layer 2" in sentence


def test_noise_in_the_truth_is_no_leak():
    """The plain gap takes it for one; freed of noise, the truth's side is what it is without."""
    clean, noisy = (figures(*made(0.0, noise))[1] for noise in (0.01, 1.5))
    assert noisy["debiased cka", GAP]["low"] > 0
    assert noisy["debiased cka", GAP_NOISELESS]["low"] < 0 < noisy["debiased cka", GAP_NOISELESS]["high"]
    assert noisy["debiased cka", NOISELESS]["value"] == pytest.approx(clean["debiased cka", "truth"]["value"], rel=0.35)
    assert noisy["debiased cka", "truth"]["value"] < 0.6 * clean["debiased cka", "truth"]["value"]


def test_a_gap_is_prediction_less_truth_and_paired(curve):
    for _, found in curve:
        for metric in ("cka", "debiased cka", "jaccard"):
            prediction, truth, gap = (found[metric, name] for name in ("prediction", "truth", GAP))
            assert gap["value"] == pytest.approx(prediction["value"] - truth["value"], abs=1e-12)
    _, found = curve[0]
    sides, activations = made(0.0, noise=0.05)
    _, near = figures(sides, activations)
    unpaired = near["jaccard", "prediction"]["high"] - near["jaccard", "prediction"]["low"]
    assert near["jaccard", GAP]["high"] - near["jaccard", GAP]["low"] < unpaired


def test_permuted_rows_are_at_chance(curve):
    _, found = curve[-1]
    rows = len(made(0.0)[1])
    assert found["jaccard", "permuted"]["value"] == pytest.approx(20 / (2 * rows), rel=0.3)
    assert abs(found["debiased cka", "permuted"]["value"]) < 0.01


def test_halves_that_share_nothing_leave_no_verdict():
    sides, activations = made(0.0)
    rng = np.random.default_rng(1)
    for seed in range(20):  # until debiased CKA between the halves comes out below zero
        alone = Sides(np.random.default_rng(seed).normal(size=sides.measured.shape), sides.predicted, sides.documents)
        rows, found = figures(alone, activations[:, rng.permutation(WIDTH)])
        if ("debiased cka", NOISELESS) not in found:
            break
    assert verdicts(rows)["activations"].status == "unmeasurable"
    assert "share no signal" in verdicts(rows)["activations"].sentence


def test_jaccard_with_equal_rows_takes_the_first_of_them():
    """Ties of distance go to the smaller row number, on both sides."""
    X = np.repeat(np.random.default_rng(0).normal(size=(40, 3)), 3, axis=0)
    Y = np.random.default_rng(1).normal(size=(120, 3))
    assert jaccard_knn(X, Y, 7) == pytest.approx(by_sorting(X, Y, 7))


def by_sorting(X, Y, k):
    lists = []
    for side in (X, Y):
        distances = np.square(side[:, None] - side[None]).sum(axis=2)
        np.fill_diagonal(distances, np.inf)
        lists.append([set(np.lexsort((np.arange(len(side)), row))[:k].tolist()) for row in distances])
    return np.mean([len(a & b) / len(a | b) for a, b in zip(*lists, strict=True)])
