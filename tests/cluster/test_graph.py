"""The neighbour graph against its formula."""

import numpy as np
import numpy.typing as npt
import pytest

from cluster.config import Weights
from cluster.graph import graph_from_neighbours, knn_graph
from cluster.neighbours import knn
from scale.errors import UserError


@pytest.fixture
def cloud() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((300, 5)) * rng.uniform(0.2, 3, (300, 1))).astype(np.float32)


@pytest.mark.parametrize("weights", ["self-tuning", "gaussian", "unit"])
def test_symmetric_positive_without_loops_and_mean_weight_one(cloud: npt.NDArray[np.float32], weights: Weights) -> None:
    graph = knn_graph(cloud, 10, weights=weights)
    assert (graph != graph.T).nnz == 0
    assert graph.diagonal().sum() == 0
    assert graph.data.dtype == np.float32
    assert graph.data.min() > 0
    edges_per_vertex = graph.nnz / 300
    assert graph.sum(axis=1, dtype=np.float64).mean() == pytest.approx(edges_per_vertex, rel=1e-6)


def test_an_edge_joins_points_when_either_is_near_the_other(cloud: npt.NDArray[np.float32]) -> None:
    neighbours = knn(cloud, 10).neighbours
    expected = np.zeros((300, 300), bool)
    expected[np.arange(300)[:, None], neighbours] = True
    np.testing.assert_array_equal(knn_graph(cloud, 10).toarray() > 0, expected | expected.T)
    assert (expected != expected.T).any()


def test_self_tuning_weights_follow_their_formula(cloud: npt.NDArray[np.float32]) -> None:
    graph = knn_graph(cloud, 10).toarray()
    scale = knn(cloud, 10).distances[:, 6].astype(np.float64)
    wide = cloud.astype(np.float64)
    squared = ((wide[:, None] - wide[None]) ** 2).sum(axis=2)
    expected = np.exp(-squared / np.outer(scale, scale)) * (graph > 0)
    np.testing.assert_allclose(graph, expected / expected[graph > 0].mean(), rtol=1e-4)


def test_self_tuning_weights_do_not_depend_on_the_unit_of_length(cloud: npt.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(knn_graph(cloud, 10).toarray(), knn_graph(cloud * 8, 10).toarray(), rtol=1e-5)


def test_gaussian_weights_decay_with_distance(cloud: npt.NDArray[np.float32]) -> None:
    graph = knn_graph(cloud, 10, weights="gaussian")
    rows, columns = graph.nonzero()
    distances = np.linalg.norm(cloud[rows] - cloud[columns], axis=1)
    weights = graph.toarray()[rows, columns]
    order = np.argsort(distances)
    assert (np.diff(weights[order]) <= 1e-4).all()
    assert weights[order][0] > 2 * weights[order][-1]


@pytest.mark.parametrize("weights", ["self-tuning", "gaussian", "unit"])
def test_duplicates_have_finite_weights(weights: Weights) -> None:
    rng = np.random.default_rng(1)
    X = np.concatenate([np.zeros((40, 3)), rng.standard_normal((60, 3))]).astype(np.float32)
    graph = knn_graph(X, 10, weights=weights)
    assert np.isfinite(graph.data).all()
    assert (graph.data > 0).all()
    all_the_same = knn_graph(np.zeros((40, 3), np.float32), 10, weights=weights)
    assert (all_the_same.data == 1).all()


def test_precomputed_neighbours_give_the_same_graph(cloud: npt.NDArray[np.float32]) -> None:
    distances, neighbours, _ = knn(cloud, 10)
    given = graph_from_neighbours(distances, neighbours, scale_neighbour=3)
    assert (given != knn_graph(cloud, 10, scale_neighbour=3)).nnz == 0
    assert (given != knn_graph(cloud, 10)).nnz > 0


def test_unknown_weights_are_refused(cloud: npt.NDArray[np.float32]) -> None:
    with pytest.raises(UserError, match="weights"):
        knn_graph(cloud, 10, weights="cosine")  # type: ignore[arg-type]
