"""Planted clusters are found, and nothing is found where there is nothing."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from cluster.config import ClusterConfig
from cluster.graph import knn_graph
from cluster.search import Clusters, cluster_vectors, find_clusters, in_threads
from scale.errors import UserError

Rows = npt.NDArray[np.float32]
SIZES = (30, 40, 60, 60, 80, 100, 120, 150)


@pytest.fixture(scope="module")
def planted() -> tuple[Rows, npt.NDArray[np.int64]]:
    """Tight groups in a broad cloud of 5,000 points, rows shuffled; truth -1 in the cloud."""
    rng = np.random.default_rng(0)
    cloud = rng.standard_normal((5000, 16))
    groups = [rng.standard_normal(16) * 1.2 + 0.4 * rng.standard_normal((size, 16)) for size in SIZES]
    truth = np.repeat(np.arange(-1, len(SIZES)), (5000, *SIZES))
    order = rng.permutation(len(truth))
    return np.concatenate([cloud, *groups])[order].astype(np.float32), truth[order]


@pytest.fixture(scope="module")
def found(planted: tuple[Rows, npt.NDArray[np.int64]]) -> Clusters:
    return find_clusters(planted[0])


def overlap(labels: npt.NDArray[np.int32], truth: npt.NDArray[np.int64], group: int) -> float:
    """The best Jaccard overlap of a planted group with a cluster."""
    own = truth == group
    return max((np.sum(own & (labels == c)) / np.sum(own | (labels == c)) for c in range(labels.max() + 1)), default=0)


def test_planted_groups_are_recovered(planted: tuple[Rows, npt.NDArray[np.int64]], found: Clusters) -> None:
    overlaps = [overlap(found.labels, planted[1], group) for group in range(len(SIZES))]
    assert np.mean(np.array(overlaps) >= 0.8) >= 0.85
    assert len(found.table) <= len(SIZES) + 1
    assert np.mean(found.labels[planted[1] < 0] >= 0) < 0.02


def test_the_answer_describes_itself(found: Clusters) -> None:
    assert found.labels.dtype == np.int32
    assert found.table["size"].to_list() == np.bincount(found.labels[found.labels >= 0]).tolist()
    assert found.table["conductance"].max() <= found.max_conductance <= 0.5
    assert found.expected_false <= 1
    assert found.epsilon == pytest.approx(28 / found.graph.sum(dtype=np.float64))
    assert found.recall == 1
    assert found.null.columns == ["size", "conductance"]
    assert found.null["conductance"].min() > found.max_conductance


def test_structureless_data_have_no_clusters() -> None:
    for seed in range(3):
        noise = np.random.default_rng(100 + seed).standard_normal((3000, 8)).astype(np.float32)
        result = find_clusters(noise, k=20, expected_false=0.01)
        assert result.table.is_empty()
        assert len(result.sweeps) > 10
        assert len(find_clusters(result.graph, max_conductance=0.7).table) > 5


def test_the_labels_do_not_depend_on_threads(planted: tuple[Rows, npt.NDArray[np.int64]], found: Clusters) -> None:
    for threads in (1, 2):
        again = find_clusters(planted[0], threads=threads)
        np.testing.assert_array_equal(again.labels, found.labels)
        assert again.table.equals(found.table)
        assert again.null.equals(found.null)


def test_another_seed_finds_the_same_groups(planted: tuple[Rows, npt.NDArray[np.int64]], found: Clusters) -> None:
    other = find_clusters(found.graph, max_conductance=found.max_conductance, seed=1)
    assert other.table["seed_row"].to_list() != found.table["seed_row"].to_list()
    agree = [overlap(other.labels, found.labels.astype(np.int64), c) for c in range(len(found.table))]
    assert np.median(agree) > 0.9


def test_a_graph_is_searched_as_given(planted: tuple[Rows, npt.NDArray[np.int64]], found: Clusters) -> None:
    graph = knn_graph(planted[0])
    same = find_clusters(graph, max_conductance=found.max_conductance)
    np.testing.assert_array_equal(same.labels, found.labels)
    assert same.null.is_empty()
    assert np.isnan(same.expected_false)
    with pytest.raises(UserError, match="max_conductance must be given"):
        find_clusters(graph)


def test_a_graph_without_edges_has_no_clusters() -> None:
    result = find_clusters(sparse.csr_array((50, 50)), max_conductance=0.5)
    assert (result.labels == -1).all()
    assert len(result.sweeps) == 50


def test_parts_without_edges_between_them_are_clusters() -> None:
    clique = np.ones((25, 25)) - np.eye(25)
    result = find_clusters(sparse.csr_array(np.kron(np.eye(40), clique)), max_conductance=0.1)
    assert len(result.table) == 40
    assert result.table["conductance"].max() < 1e-12
    np.testing.assert_array_equal(result.labels.reshape(40, 25), np.repeat(result.labels[::25, None], 25, axis=1))


def test_the_null_can_be_left_out(planted: tuple[Rows, npt.NDArray[np.int64]], found: Clusters) -> None:
    config = ClusterConfig(max_conductance=found.max_conductance, null_seeds=0)
    result = cluster_vectors(planted[0], config, in_threads())
    np.testing.assert_array_equal(result.labels, found.labels)
    assert result.null.is_empty()
