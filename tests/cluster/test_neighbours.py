"""Nearest neighbours against brute force."""

import numpy as np
import numpy.typing as npt
import pytest

from cluster import neighbours as module
from cluster.config import Method
from cluster.indexes import ListIndex, QuantisedIndex, read_index
from cluster.neighbours import Search, knn, prepare, search_blocks
from scale.errors import UserError


def brute(X: npt.NDArray[np.float32], k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Sorted by (distance, number), each row's own number left out."""
    wide = X.astype(np.float64)
    distances = np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@pytest.fixture
def cloud() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((400, 7)).astype(np.float32)


def test_neighbours_are_those_of_brute_force(cloud: npt.NDArray[np.float32]) -> None:
    distances, neighbours, recall = knn(cloud, 12)
    expected_distances, expected = brute(cloud, 12)
    np.testing.assert_array_equal(neighbours, expected)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)
    assert recall == 1


def test_far_from_the_origin_distances_stay_exact(cloud: npt.NDArray[np.float32]) -> None:
    moved = cloud * np.float32(0.01) + np.float32(100)
    distances, _, _ = knn(moved, 3)
    np.testing.assert_allclose(distances, brute(moved, 3)[0], rtol=1e-2)
    assert (np.diff(distances, axis=1) >= 0).all()


def test_a_duplicate_is_a_neighbour_and_the_point_itself_is_not() -> None:
    rng = np.random.default_rng(1)
    X = np.repeat(rng.standard_normal((30, 4)).astype(np.float32), 4, axis=0)
    distances, neighbours, _ = knn(X, 5)
    rows = np.arange(len(X))
    assert (neighbours != rows[:, None]).all()
    assert all(len(set(row)) == 5 for row in neighbours.tolist())
    copies = [[other for other in range(row - row % 4, row - row % 4 + 4) if other != row] for row in rows]
    np.testing.assert_array_equal(neighbours[:, :3], copies)
    assert (distances[:, :3] == 0).all()
    assert (distances[:, 3:] > 0).all()


def test_more_duplicates_than_neighbours() -> None:
    distances, neighbours, _ = knn(np.ones((60, 3), np.float32), 5)
    assert (distances == 0).all()
    assert (neighbours != np.arange(60)[:, None]).all()
    assert (neighbours >= 0).all()


def test_queries_by_row_number_are_the_rows_of_the_whole(cloud: npt.NDArray[np.float32]) -> None:
    whole = knn(cloud, 6)
    some = knn(cloud, 6, queries=np.array([7, 300, 7]))
    np.testing.assert_array_equal(some.neighbours, whole.neighbours[[7, 300, 7]])
    np.testing.assert_array_equal(some.distances, whole.distances[[7, 300, 7]])


def test_other_vectors_find_the_point_at_their_place(cloud: npt.NDArray[np.float32]) -> None:
    distances, neighbours, _ = knn(cloud, 2, queries=cloud[10:13])
    assert neighbours[:, 0].tolist() == [10, 11, 12]
    assert (distances[:, 0] == 0).all()


def test_every_other_point_can_be_asked_for(cloud: npt.NDArray[np.float32]) -> None:
    small = cloud[:9]
    assert knn(small, 8).neighbours.shape == (9, 8)
    with pytest.raises(UserError, match="k must be between 1 and 8"):
        knn(small, 9)
    with pytest.raises(UserError, match="k must be between 1 and 8"):
        knn(small, 0)


@pytest.mark.parametrize(("search", "width"), [("lists", 8), ("quantised", 8), ("quantised", 9)])
def test_approximate_search_states_the_recall_it_reached(search: Method, width: int) -> None:
    X = np.random.default_rng(2).standard_normal((6000, width)).astype(np.float32)
    exact = knn(X, 10)
    found = knn(X, 10, recall=0.9, search=search)
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.neighbours, found.neighbours, strict=True)])
    assert 0.9 <= found.recall < 1
    assert shared == pytest.approx(found.recall, abs=0.03)
    again = knn(X, 10, recall=0.9, search=search)
    np.testing.assert_array_equal(again.neighbours, found.neighbours)


def test_lists_reach_any_recall(cloud: npt.NDArray[np.float32]) -> None:
    X = np.concatenate([cloud, cloud + 3, cloud * 4])
    exact = knn(X, 10, search="exact")
    found = knn(X, 10, recall=1.0, search="lists")
    np.testing.assert_array_equal(found.neighbours, exact.neighbours)
    np.testing.assert_array_equal(found.distances, exact.distances)


def test_a_recall_out_of_reach_is_refused() -> None:
    X = np.random.default_rng(3).standard_normal((6000, 200)).astype(np.float32)
    with pytest.raises(UserError, match=r"cluster\.recall 1\.0 is out of reach .* set cluster\.search to lists"):
        knn(X, 10, recall=1.0, search="quantised")
    rows = np.arange(len(X))
    with pytest.raises(UserError, match=r"raise cluster\.probes or leave it null"):
        prepare(X, X, rows, 10, Search("lists", 0.9, probes=2))


@pytest.mark.parametrize("kind", [ListIndex, QuantisedIndex])
def test_lists_too_short_are_followed_by_others(kind: type[ListIndex] | type[QuantisedIndex]) -> None:
    """Of 60 groups of 20 points, so that most lists near a point hold no 30 others."""
    rng = np.random.default_rng(4)
    X = np.repeat(rng.standard_normal((60, 6)) * 10, 20, axis=0).astype(np.float32)
    X += rng.standard_normal(X.shape).astype(np.float32) * 0.01
    rows = np.arange(len(X))
    lists = ListIndex.of(X, 60, 0).lists
    assert np.mean(np.diff(lists.bounds) < 30) > 0.8
    distances, neighbours = search_blocks(kind.of(X, 60, 0), X, X, rows, 30)
    assert np.isfinite(distances).all()
    assert (neighbours[:, :19] // 20 == rows[:, None] // 20).all()


def test_every_pair_is_compared_up_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(5).standard_normal((3000, 5)).astype(np.float32)
    rows = np.arange(len(X))
    assert len(prepare(X, X, rows, 5, Search("auto", 0.9))[1].rows) == 0
    monkeypatch.setattr(module, "EXACT_BUDGET", 1e7)
    assert len(prepare(X, X, rows, 5, Search("auto", 0.9))[1].rows) == 1000
    assert len(prepare(X, X, rows, 5, Search("exact", 0.9))[1].rows) == 0


@pytest.mark.parametrize("search", ["lists", "quantised"])
def test_an_index_is_the_same_from_its_arrays(search: Method, cloud: npt.NDArray[np.float32]) -> None:
    X = np.concatenate([cloud, cloud + 1])
    index, _ = prepare(X, X, np.arange(len(X)), 6, Search(search, 0.5))
    again = read_index(index.arrays(), X)
    np.testing.assert_array_equal(again.candidates(X[:50], 10), index.candidates(X[:50], 10))
    np.testing.assert_array_equal(again.order, index.order)


def test_values_that_are_not_numbers_are_refused(cloud: npt.NDArray[np.float32]) -> None:
    cloud[3, 2] = np.nan
    with pytest.raises(UserError, match="NaN"):
        knn(cloud, 3)
