"""Where clusters lie: centroids, the map, the walk's profile."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from cluster.report.centroids import CentroidAccumulator, centroids
from cluster.report.dust import sample_rows, settle
from cluster.report.layout import lay_out
from cluster.report.places import levels
from cluster.report.postings import Postings
from cluster.report.statistics import Shared
from cluster.report.walk_profile import Graph, open_graph, walk_profile
from scale.store import write_array


def rows_of(rng: np.random.Generator, rows: int = 600, clusters: int = 5) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(-1, clusters, rows).astype(np.int32)
    return labels, (rng.normal(size=(rows, 4)) * [3, 2, 1, 0.5] + labels[:, None]).astype(np.float32)


def test_centroids_are_means_in_whitened_space_and_in_deviations() -> None:
    labels, values = rows_of(np.random.default_rng(0))
    found = centroids(labels, [values], 5)
    white = found.whitening.transform(values.astype(np.float64))
    for cluster in range(5):
        assert found.whitened[cluster] == pytest.approx(white[labels == cluster].mean(axis=0))
        own = (values[labels == cluster].mean(axis=0) - values.mean(axis=0)) / values.std(axis=0, ddof=1)
        assert found.profile[cluster] == pytest.approx(own, rel=1e-4, abs=1e-5)


def test_centroids_do_not_depend_on_blocks_or_on_merging() -> None:
    labels, values = rows_of(np.random.default_rng(1))
    whole = centroids(labels, [values], 5)
    cut = centroids(labels, np.array_split(values, 7), 5)
    assert cut.whitened == pytest.approx(whole.whitened)
    halves = [CentroidAccumulator(5, 4) for _ in range(2)]
    halves[0].update(labels[:100], values[:100])
    halves[1].update(labels[100:], values[100:])
    halves[0].merge(halves[1])
    assert halves[0].result().profile == pytest.approx(whole.profile)


def test_rows_of_coordinates_that_are_not_those_of_the_labels_are_noticed() -> None:
    labels, values = rows_of(np.random.default_rng(2))
    with pytest.raises(AssertionError, match="600 labels"):
        centroids(labels, [values[:-1]], 5)


def test_the_map_keeps_groups_together_and_is_the_same_again() -> None:
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(6), 30)
    points = rng.normal(size=(6, 10))[group] * 6 + rng.normal(size=(180, 10)) * 0.3
    found = lay_out(points, 0, 500)
    assert found.xy.min() >= 0
    assert found.xy.max() <= 1
    distance = np.linalg.norm(found.xy[:, None] - found.xy[None], axis=2) + np.eye(180) * 9
    assert (group[distance.argmin(axis=1)] == group).mean() > 0.98
    assert (group[found.nearest] == group[:, None]).all()
    assert len(np.unique(found.neighbourhood)) == 19
    assert all(len(np.unique(found.region[found.neighbourhood == n])) == 1 for n in range(19))
    assert (lay_out(points, 0, 500).xy == found.xy).all()
    shuffled = lay_out(rng.normal(size=(180, 10)), 0, 500)
    near = np.linalg.norm(shuffled.xy[:, None] - shuffled.xy[None], axis=2) + np.eye(180) * 9
    assert (group[near.argmin(axis=1)] == group).mean() < 0.5


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9])
def test_few_clusters_have_a_map_too(count: int) -> None:
    found = lay_out(np.random.default_rng(4).normal(size=(count, 5)), 0, 500)
    assert found.xy.shape == (count, 2)
    assert np.isfinite(found.xy).all()
    assert len(found.nearest) == len(found.neighbourhood) == len(found.region) == count
    assert found.nearest.shape[1] == max(0, min(10, count - 1))


def test_equal_clusters_have_a_map_too() -> None:
    assert np.isfinite(lay_out(np.ones((12, 3)), 0, 500).xy).all()


def test_sampled_tokens_settle_where_their_cluster_lies() -> None:
    rng = np.random.default_rng(5)
    middles, xy = rng.normal(size=(9, 6)) * 5, rng.random((9, 2))
    points = middles + rng.normal(size=(9, 6)) * 0.01
    assert settle(points, middles, xy) == pytest.approx(xy, abs=1e-3)
    blocks = [np.arange(10_000.0)[:, None], np.arange(10_000.0, 50_000)[:, None]]
    assert sample_rows(iter(blocks), 50_000)[:, 0].tolist() == list(range(0, 50_000, 5))


def test_groups_are_named_by_what_sets_them_apart() -> None:
    class Stub:
        class layout:  # noqa: N801
            xy = np.array([[0.1, 0.1], [0.2, 0.1], [0.9, 0.9]])
            neighbourhood = np.array([0, 0, 1])
            region = np.zeros(3, np.int64)

    postings = Postings()
    for cluster, items in enumerate(([7, 1], [7, 1], [8, 1])):
        postings.add(cluster, Shared(np.array(items), np.array([30, 40]), np.zeros(2), 2))
    stub: Any = Stub()
    found = levels(stub, pl.DataFrame({"size": [70, 70, 70]}), postings)
    assert [row[5][0] for row in found["neighbourhoods"]] == [7, 8]
    assert [row[3:5] for row in found["neighbourhoods"]] == [[2, 140], [1, 70]]
    assert [row[3:5] for row in found["regions"]] == [[3, 210]]


def test_the_walk_profile_against_conductance_by_its_definition(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    dense = np.triu((rng.random((40, 40)) < 0.3) * rng.random((40, 40)), 1)
    dense = dense + dense.T
    graph = sparse.csr_array(dense.astype(np.float32))
    graph.data /= graph.data.mean()
    for name, array in (("indptr", graph.indptr), ("indices", graph.indices), ("weights", graph.data)):
        write_array(tmp_path / "graph" / f"{name}.npy", array)
    rows, pagerank = rng.permutation(40)[:15].astype(np.int64), rng.random(15)
    opened = open_graph(tmp_path)
    assert isinstance(opened, Graph)
    sizes, conductance = walk_profile(opened, rows, pagerank)
    weights = graph.toarray().astype(np.float64)
    degree = weights.sum(axis=1)
    order = rows[np.argsort(-pagerank / degree[rows])]
    assert sizes[-1] == 15
    for size, value in zip(sizes, conductance, strict=True):
        inside = np.isin(np.arange(40), order[:size])
        expected = weights[inside][:, ~inside].sum() / min(degree[inside].sum(), degree[~inside].sum())
        assert value == pytest.approx(expected, rel=1e-5)
    assert open_graph(tmp_path / "none") is None
