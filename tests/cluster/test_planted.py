"""Groups of 20 to 2,000 points, tight and loose, in a broad cloud with heavy tails; and the rate on the null."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from cluster.config import ClusterConfig, Visited
from cluster.null import ACCEPT_NOTHING, null_graph, search_null
from cluster.search import Clusters, find_clusters
from cluster.walks import Walker

SIZES = (20, 25, 30, 30, 40, 50, 60, 80, 80, 100, 120, 150, 200, 300, 500, 800, 1200, 2000)
CLOUD, DIMENSIONS = 6000, 20
#: Leaves room for the largest group: a walk ends with less than epsilon per degree, a mass of 1 in all.
EPSILON = 8e-6


class Planted(NamedTuple):
    points: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int64]
    found: Clusters


@pytest.fixture(scope="module")
def planted() -> Planted:
    rng = np.random.default_rng(0)
    tails = np.sqrt(4 / rng.chisquare(4, (CLOUD, 1)))
    parts = [tails * rng.standard_normal((CLOUD, DIMENSIONS))]
    for size in SIZES:
        spread = rng.uniform(0.15, 0.45)
        parts.append(1.3 * rng.standard_normal(DIMENSIONS) + spread * rng.standard_normal((size, DIMENSIONS)))
    order = rng.permutation(CLOUD + sum(SIZES))
    points = np.concatenate(parts).astype(np.float32)[order]
    truth = np.repeat(np.arange(-1, len(SIZES)), (CLOUD, *SIZES))[order]
    return Planted(points, truth, find_clusters(points, epsilon=EPSILON, null_seeds=100))


def overlaps(labels: npt.NDArray[np.int32], truth: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Jaccard overlap of every group (rows) with every cluster (columns)."""
    common = np.zeros((len(SIZES) + 1, labels.max() + 2))
    np.add.at(common, (truth + 1, labels + 1), 1)
    either = common.sum(axis=1, keepdims=True) + common.sum(axis=0) - common
    return (common / either)[1:, 1:]


def test_nearly_all_groups_are_found_and_little_else(planted: Planted) -> None:
    found = overlaps(planted.found.labels, planted.truth)
    wanted = np.array(SIZES) >= 30
    assert np.mean(found.max(axis=1)[wanted] >= 0.8) >= 0.95
    assert np.mean(found.max(axis=0) < 0.5) <= 0.02
    assert np.mean(overlaps(np.random.default_rng(0).permutation(planted.found.labels), planted.truth) >= 0.8) == 0


@pytest.mark.parametrize("visited", ["support", "best-prefix"])
def test_whatever_a_failed_walk_rules_out(planted: Planted, visited: Visited) -> None:
    threshold = planted.found.max_conductance
    found = find_clusters(planted.found.graph, epsilon=EPSILON, visited=visited, max_conductance=threshold)
    overlap = overlaps(found.labels, planted.truth).max(axis=1)
    assert np.mean(overlap[np.array(SIZES) >= 30] >= 0.8) >= 0.9


def test_labels_are_the_same_in_1_2_and_4_threads(planted: Planted) -> None:
    def search(threads: int) -> Clusters:
        limit = planted.found.max_conductance
        graph = planted.found.graph
        return find_clusters(graph, epsilon=EPSILON, visited="support", max_conductance=limit, threads=threads)

    one = search(1)
    assert len(one.sweeps) > 3 * len(one.table) > 30
    for other in (search(2), search(4)):
        np.testing.assert_array_equal(other.labels, one.labels)
        np.testing.assert_array_equal(other.pagerank, one.pagerank)
        assert other.sweeps.equals(one.sweeps)
        assert other.table.drop("depth").equals(one.table.drop("depth"))


def test_the_table_says_how_deep_and_how_whole(planted: Planted) -> None:
    table, labels = planted.found.table, planted.found.labels
    assert (table["depth"] >= -np.log10(planted.found.expected_false) - 1e-9).all()
    by_conductance = table.sort("conductance")
    assert by_conductance["depth"].is_sorted(descending=True)
    assert (table["cohesion"] > table["conductance"]).mean() > 0.9
    assert ((planted.found.pagerank > 0) == (labels >= 0)).all()
    own = overlaps(labels, planted.truth).argmax(axis=0)
    assert len(set(own)) == len(own)


def test_no_cluster_is_larger_than_asked(planted: Planted) -> None:
    graph, threshold = planted.found.graph, planted.found.max_conductance
    found = find_clusters(graph, max_size=200, epsilon=EPSILON, max_conductance=threshold, visited="support")
    assert planted.found.table["size"].max() > 1000
    assert 100 < found.table["size"].max() <= 200


def test_the_null_gives_at_most_what_was_asked_for() -> None:
    """Thresholds from one null, clusters counted in others: three expected in ten of them."""
    config = ClusterConfig(k=15, null_seeds=400)
    first = null_graph(2500, 3, config)
    threshold = search_null(first, config, Walker(first, config, ACCEPT_NOTHING)).threshold(0.3)
    others = [null_graph(2500, 3, ClusterConfig(k=15, seed=seed)) for seed in range(1, 11)]

    found = [search_null(graph, config, Walker(graph, config, ACCEPT_NOTHING)).table["conductance"] for graph in others]

    def count(limit: float) -> int:
        return sum(int((conductance <= limit).sum()) for conductance in found)

    assert count(threshold) <= 8
    assert count(1.5 * threshold) > 8
