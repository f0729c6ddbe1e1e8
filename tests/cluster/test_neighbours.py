"""Nearest neighbours against brute force."""

import numpy as np
import numpy.typing as npt
import pytest

from cluster.neighbours import knn
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


@pytest.mark.parametrize("width", [8, 9])
def test_approximate_search_states_the_recall_it_reached(width: int) -> None:
    X = np.random.default_rng(2).standard_normal((6000, width)).astype(np.float32)
    exact = knn(X, 10)
    found = knn(X, 10, recall=0.9, exact=False)
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.neighbours, found.neighbours, strict=True)])
    assert found.recall >= 0.9
    assert shared == pytest.approx(found.recall, abs=0.03)
    again = knn(X, 10, recall=0.9, exact=False)
    np.testing.assert_array_equal(again.neighbours, found.neighbours)


def test_a_recall_out_of_reach_is_refused() -> None:
    X = np.random.default_rng(3).standard_normal((6000, 200)).astype(np.float32)
    with pytest.raises(UserError, match=r"recall 1\.0 is out of reach"):
        knn(X, 10, recall=1.0, exact=False)


def test_values_that_are_not_numbers_are_refused(cloud: npt.NDArray[np.float32]) -> None:
    cloud[3, 2] = np.nan
    with pytest.raises(UserError, match="NaN"):
        knn(cloud, 3)
