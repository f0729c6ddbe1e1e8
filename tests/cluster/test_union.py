"""Directed edges made undirected, against dense matrices."""

import numpy as np
import pytest

from cluster.union import union


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_the_union_of_a_matrix_and_its_transpose(dtype: type[np.integer]) -> None:
    """Some name each other, with weights of their own; all name point 0, which names nine."""
    rng = np.random.default_rng(0)
    points, k = 200, 9
    chance = rng.random((points, points))
    chance[:, 0] = -1
    np.fill_diagonal(chance, 2)
    neighbours = np.argsort(chance, axis=1)[:, :k]
    weights = rng.uniform(0.1, 1, (points, k)).astype(np.float32)
    one_way = np.zeros((points, points), np.float32)
    one_way[np.arange(points)[:, None], neighbours] = weights
    assert (one_way[:, 0] > 0).sum() > 150
    assert ((one_way > 0) & (one_way.T > 0)).sum() > 10

    indptr, indices, values = union(neighbours.astype(dtype), weights)
    expected = np.maximum(one_way, one_way.T)
    rows = np.repeat(np.arange(points), np.diff(indptr))
    found = np.zeros_like(one_way)
    found[rows, indices] = values
    np.testing.assert_array_equal(found, expected)
    assert len(values) == np.count_nonzero(expected)
    ascending = np.diff(indices) > 0
    assert ascending[np.diff(rows) == 0].all()
