import tracemalloc

import numpy as np
import pytest

from eval.bootstrap import document_groups
from eval.cka import ROWS, LinearCKA, linear_cka
from eval.left_out import cka_estimate, left_out


def related(rows=90, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 12)) + 30.0
    Y = X[:, :5] @ rng.normal(size=(5, 7)) + rng.normal(size=(rows, 7)) - 200.0
    return X, Y


def centred_gram(X):
    centring = np.eye(len(X)) - 1 / len(X)
    return centring @ X @ X.T @ centring


def kernel_cka(X, Y):
    K, L = centred_gram(X), centred_gram(Y)
    return (K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum())


def centred_cka(X, Y):
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    return np.square(X.T @ Y).sum() / np.sqrt(np.square(X.T @ X).sum() * np.square(Y.T @ Y).sum())


def unbiased_hsic(K, L):
    """Song et al. (2012), equation 4, from kernel matrices whose diagonals are removed."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    ones = np.ones(n)
    total = np.trace(K @ L) + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * ones @ K @ L @ ones
    return total / (n * (n - 3))


def kernel_debiased(X, Y):
    K, L = X @ X.T, Y @ Y.T
    return unbiased_hsic(K, L) / np.sqrt(unbiased_hsic(K, K) * unbiased_hsic(L, L))


def test_equals_the_kernel_form():
    X, Y = related()
    assert linear_cka(X, Y) == pytest.approx(kernel_cka(X, Y), abs=1e-10)
    assert 0.2 < linear_cka(X, Y) < 0.95


def test_debiased_equals_the_kernel_form():
    X, Y = related()
    X, Y = X - X.mean(axis=0) + 1.0, Y - Y.mean(axis=0) - 2.0
    assert LinearCKA(12, 7).update(X, Y).result().debiased == pytest.approx(kernel_debiased(X, Y), abs=1e-10)


def test_more_features_than_rows_equals_the_kernel_form():
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(20, 50)), rng.normal(size=(20, 40))
    assert linear_cka(X, Y) == pytest.approx(kernel_cka(X, Y), abs=1e-10)


def test_unrelated_data_looks_alike_to_the_biased_form_only():
    rng = np.random.default_rng(2)
    results = [
        LinearCKA(80, 80).update(rng.normal(size=(60, 80)), rng.normal(size=(60, 80))).result() for _ in range(20)
    ]
    assert min(result.value for result in results) > 0.5
    assert abs(np.mean([result.debiased for result in results])) < 0.02


def test_identity_rotation_and_scale_leave_it_at_one():
    X, _ = related()
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(12, 12)))[0]
    assert linear_cka(X, 3.0 * X @ rotation + 5.0) == pytest.approx(1.0, abs=1e-12)
    assert linear_cka(X, X * np.arange(1, 13)) < 0.99


@pytest.mark.parametrize("cuts", [[1], [30, 31], [10, 20, 50]])
def test_merge_equals_one_pass_at_a_large_offset(cuts):
    X, Y = related()
    X = X + 1e4
    whole = LinearCKA(12, 7).update(X, Y).result()
    parts = [LinearCKA(12, 7).update(x, y) for x, y in zip(np.split(X, cuts), np.split(Y, cuts), strict=True)]
    merged = LinearCKA(12, 7)
    for part in reversed(parts):
        merged.merge(part)
    assert merged.result().value == pytest.approx(whole.value, rel=1e-10)
    assert merged.result().debiased == pytest.approx(whole.debiased, rel=1e-8)


def test_without_undoes_merge():
    X, Y = related()
    whole = LinearCKA(12, 7).update(X, Y)
    rest = whole.without(LinearCKA(12, 7).update(X[:25], Y[:25])).result()
    assert rest.value == pytest.approx(kernel_cka(X[25:], Y[25:]), abs=1e-10)
    assert rest.debiased == pytest.approx(kernel_debiased(X[25:], Y[25:]), abs=1e-8)
    assert whole.result().value == pytest.approx(kernel_cka(X, Y), abs=1e-10)


def test_constant_side_gives_zero():
    X, _ = related()
    assert linear_cka(X, np.ones((90, 3))) == 0.0


def test_the_estimate_is_of_the_plain_value_and_order_does_not_matter():
    X, Y = related(200)
    groups = document_groups(np.repeat(np.arange(40), 5), 8)
    one = cka_estimate(X, Y, groups)
    order = np.random.default_rng(7).permutation(200)
    two = cka_estimate(X[order], Y[order], groups[order])
    assert one.cka.value == pytest.approx(linear_cka(X, Y), abs=1e-12)
    assert one.cka.low < one.cka.value < one.cka.high
    assert two.cka.low == pytest.approx(one.cka.low, abs=1e-10)
    assert two.debiased.high == pytest.approx(one.debiased.high, abs=1e-10)


def test_rows_by_number_are_those_rows_by_themselves():
    X, Y = related(2 * ROWS + 100)
    rows = np.random.default_rng(9).permutation(len(X))[: ROWS + 50]
    by_number, themselves = LinearCKA(12, 7).update(X, Y, rows=rows), LinearCKA(12, 7).update(X[rows], Y[rows])
    assert by_number.count == len(rows)
    np.testing.assert_array_equal(by_number.scatter, themselves.scatter)
    assert LinearCKA(12, 7).update(X, Y, rows=rows[:0]).count == 0


def test_memory_does_not_grow_with_the_number_of_groups():
    X, Y = (np.random.default_rng(10).normal(size=(2000, width)) for width in (200, 10))
    peaks = []
    for groups in (2, 40):
        tracemalloc.start()
        left_out([X, Y], np.arange(2000) % groups, [(0, 1)])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * 8 * 210**2


def test_interval_covers_the_population_value():
    mixing = np.random.default_rng(4).normal(size=(4, 3))
    half = LinearCKA(4, 3).update(*documents_sample(np.random.default_rng(5), mixing, 40_000)[:2]).result().value
    covered = 0
    for seed in range(100):
        X, Y, documents = documents_sample(np.random.default_rng([6, seed]), mixing, 100)
        interval = cka_estimate(X, Y, document_groups(documents, 20)).debiased
        covered += interval.low <= half <= interval.high
    assert 85 <= covered <= 100


def documents_sample(rng, mixing, documents):
    """Five tokens per document that share most of their variation."""
    shared = np.repeat(rng.normal(size=(documents, 4)), 5, axis=0)
    X = shared + 0.5 * rng.normal(size=shared.shape)
    Y = shared @ mixing + rng.normal(size=(len(X), 3))
    return X, Y, np.repeat(np.arange(documents), 5)


def test_several_descriptions_at_once_equal_each_by_itself():
    X, Y = related(300)
    Z = np.random.default_rng(8).normal(size=(300, 3)) + X[:, :3]
    sums = LinearCKA(12, 7, 3).update(X[:100], Y[:100], Z[:100]).update(X[100:], Y[100:], Z[100:])
    for pair, sides in {(0, 1): (X, Y), (0, 2): (X, Z), (1, 2): (Y, Z)}.items():
        assert sums.result(*pair).value == pytest.approx(kernel_cka(*sides), abs=1e-10)
        assert sums.result(*pair).debiased == pytest.approx(kernel_debiased(*sides), abs=1e-8)


def test_single_precision_far_from_zero_over_many_blocks():
    X, Y = related(5000)
    assert LinearCKA(12, 7).update(X, Y).result().value == pytest.approx(centred_cka(X, Y), abs=1e-10)
    X, Y = (X + 100).astype(np.float32), (Y - 300).astype(np.float32)
    exact = LinearCKA(12, 7).update(X.astype(np.float64), Y.astype(np.float64)).result()
    found = LinearCKA(12, 7).update(X, Y).result()
    assert found.value == pytest.approx(exact.value, rel=1e-5)
    assert found.debiased == pytest.approx(exact.debiased, rel=1e-5)


def test_groups_left_out_equal_the_rest_by_itself():
    X, Y = related(200)
    groups = document_groups(np.repeat(np.arange(40), 5), 4)
    values = left_out([X, Y], groups, [(0, 1), (1, 0)])
    assert values.shape == (5, 2, 2)
    np.testing.assert_allclose(values[:, 0], values[:, 1])
    for group in range(4):
        assert values[1 + group, 0, 0] == pytest.approx(kernel_cka(X[groups != group], Y[groups != group]), abs=1e-10)
