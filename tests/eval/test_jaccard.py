import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from cluster.neighbours import knn
from eval.jaccard import JaccardKNN, jaccard_knn, jaccard_rows, permute_rows


def two_views(rows=300, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 6))
    return X, X[:, :4] + noise * rng.normal(size=(rows, 4))


def by_sets(X, Y, k):
    lists = [NearestNeighbors(n_neighbors=k).fit(side).kneighbors(return_distance=False) for side in (X, Y)]
    pairs = [(set(a), set(b)) for a, b in zip(*lists, strict=True)]
    return np.array([len(a & b) / len(a | b) for a, b in pairs])


@pytest.mark.parametrize("k", [1, 7, 50])
def test_equals_sets_of_brute_force_neighbours(k):
    X, Y = two_views()
    assert jaccard_knn(X, Y, k) == pytest.approx(by_sets(X, Y, k).mean(), abs=1e-12)


def test_itself_is_one_and_unrelated_is_chance():
    X, _ = two_views(1000)
    unrelated = np.random.default_rng(9).normal(size=(1000, 5))
    assert jaccard_knn(X, X * 2 + 1, 20) == 1.0
    assert jaccard_knn(X, unrelated, 20) == pytest.approx(20 / 2000, rel=0.25)


def test_shards_of_queries_equal_one_pass():
    X, Y = two_views()
    whole = JaccardKNN(10).update(*(knn(side, 10, search="exact").neighbours for side in (X, Y))).result()
    shards = [
        JaccardKNN(10).update(*(knn(side, 10, queries=rows, search="exact").neighbours for side in (X, Y)))
        for rows in np.split(np.arange(len(X)), [100, 101])
    ]
    merged = shards[0].merge(shards[1]).merge(shards[2]).result()
    np.testing.assert_array_equal(merged.values, whole.values)
    assert merged.mean == pytest.approx(whole.mean)
    np.testing.assert_allclose(whole.values, by_sets(X, Y, 10))


def test_rows_ignore_the_order_of_neighbours():
    first, second = np.array([[1, 2, 3, 4]]), np.array([[4, 3, 9, 8]])
    assert jaccard_rows(first, second) == pytest.approx([2 / 6])


def test_permuted_lists_equal_neighbours_of_permuted_rows():
    X, Y = two_views()
    permutation = np.random.default_rng(1).permutation(len(X))
    direct = np.sort(knn(X[permutation], 10, search="exact").neighbours)
    neighbours = knn(X, 10, search="exact").neighbours
    np.testing.assert_array_equal(np.sort(permute_rows(neighbours, permutation)), direct)
    other = knn(Y, 10, search="exact").neighbours
    control = jaccard_rows(permute_rows(neighbours, permutation), other).mean()
    assert control < 0.05 < jaccard_rows(neighbours, other).mean()
