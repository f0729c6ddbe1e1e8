"""The least keys by blocks of products, against all of them sorted."""

import numpy as np
import pytest

from cluster import products
from cluster.lists import Lists, by_list
from cluster.products import Nearest, select


@pytest.mark.parametrize("tile", [(256, 1024), (7, 33), (64, 64)])
def test_the_least_keys_are_kept(tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "TILE_QUERIES", tile[0])
    monkeypatch.setattr(products, "TILE_POINTS", tile[1])
    rng = np.random.default_rng(0)
    points = rng.standard_normal((300, 5)).astype(np.float32)
    queries = rng.standard_normal((40, 5)).astype(np.float32)
    norms = np.square(points).sum(axis=1)
    nearest = Nearest(queries, 12)
    asking = np.arange(0, 40, 2)
    for first in (200, 0, 130):
        last = {200: 300, 0: 130, 130: 200}[first]
        nearest.compare(asking, points[first:last], norms[first:last], first)
    keys = norms - 2 * queries @ points.T
    order = np.argsort(keys, axis=1)[:, :12]
    least, found = nearest.least()
    np.testing.assert_array_equal(np.sort(found[::2]), np.sort(order[::2]))
    np.testing.assert_allclose(np.sort(least[::2]), np.sort(keys)[::2, :12], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(nearest.limits[::2], least[::2].max(axis=1))
    assert (found[1::2] == -1).all()
    assert np.isinf(least[1::2]).all()


def test_selecting_many_equal_keys() -> None:
    rng = np.random.default_rng(3)
    for values in (1, 3, 50):
        keys = rng.integers(0, values, 90).astype(np.float32)
        points = np.arange(90)
        before = keys.copy()
        select(keys, points, 30, 80)
        np.testing.assert_array_equal(before[points], keys)
        np.testing.assert_array_equal(np.sort(keys[:30]), np.sort(before[:80])[:30])
        assert keys[29] == keys[:30].max()


def test_queries_by_the_list_they_open() -> None:
    opened = np.random.default_rng(1).integers(-1, 9, (50, 4))
    starts, asking = by_list(opened, 10)
    for number in range(10):
        expected = np.repeat(np.arange(50), (opened == number).sum(axis=1))
        assert asking[starts[number] : starts[number + 1]].tolist() == expected.tolist()


def test_lists_hold_every_point_once_next_to_its_centroid() -> None:
    X = (np.random.default_rng(2).standard_normal((2000, 6)) + 50).astype(np.float32)
    lists = Lists.of(X, 16, 0)
    assert np.array_equal(np.sort(lists.rows), np.arange(2000))
    np.testing.assert_allclose(lists.points + lists.centre, X[lists.rows], atol=1e-5)
    distance = np.linalg.norm(lists.points[:, None] - lists.centroids, axis=2)
    number = np.repeat(np.arange(16), np.diff(lists.bounds))
    np.testing.assert_allclose(distance[np.arange(2000), number], distance.min(axis=1), rtol=1e-5)
    radii = [np.sqrt(np.square(distance[number == one, one]).mean()) for one in range(16)]
    np.testing.assert_allclose(lists.radii, radii, rtol=1e-5)
    shares = [np.mean([np.isin(a, b).mean() for a, b in zip(full, lists.candidates(X, 9, opened), strict=True)])
              for full in [lists.candidates(X, 9, 16)] for opened in (1, 4, 16)]  # fmt: skip
    assert shares[0] < shares[1] < shares[2] == 1
