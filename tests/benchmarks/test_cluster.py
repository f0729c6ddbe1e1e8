"""The global solvers of the benchmark solve what the push approximates, each by its own convention."""

import networkx as nx
import numpy as np
import pytest
from scipy import sparse

from benchmarks.cluster.measure import Ours, take_turns
from benchmarks.cluster.peers import PEERS
from benchmarks.cluster.rates import gather
from benchmarks.sides import OURS
from cluster.pagerank import approximate_pagerank
from cluster.walkgraph import WalkGraph

MODULES = {"igraph": "igraph", "scikit-network": "sknetwork", "scipy": "scipy"}


def weighted_club() -> sparse.csr_array:
    return nx.to_scipy_sparse_array(nx.karate_club_graph(), weight="weight", dtype=float).tocsr()


@pytest.mark.parametrize("name", sorted(PEERS))
def test_peers_solve_for_the_vector_that_is_pushed(name: str) -> None:
    pytest.importorskip(MODULES[name])
    matrix = weighted_club()
    for seed in (0, 20):
        found = PEERS[name](matrix, 0.15, 1e-7)(seed)
        pushed = approximate_pagerank(matrix, seed, alpha=0.15, epsilon=1e-12).p.toarray().ravel()
        np.testing.assert_allclose(found, pushed, atol=2e-5)
        assert (
            abs(found - approximate_pagerank(matrix, seed, alpha=0.3, epsilon=1e-12).p.toarray().ravel()).max() > 1e-2
        )


def test_every_side_is_timed_at_the_same_seeds() -> None:
    from benchmarks.cluster.measure import Setting

    graph = WalkGraph.from_matrix(weighted_club())
    ours, asked = Ours(graph), []

    def other(seeds: np.ndarray, alpha: float, epsilon: float) -> None:
        asked.append((seeds.tolist(), alpha, epsilon))

    ours(np.arange(5), 0.1, 1e-4)
    edges = ours.edges
    assert edges > 5 * len(graph)
    rates = take_turns({OURS: ours, "other": other}, np.arange(5), Setting(0.1, 1e-4, 5), 3)
    assert ours.edges == 4 * edges
    assert asked == [([0, 1, 2, 3, 4], 0.1, 1e-4)] * 3
    assert [len(each) for each in rates.values()] == [3, 3]


def test_a_gather_reads_every_edge_once() -> None:
    edges = WalkGraph.from_matrix(weighted_club()).edges
    values = np.arange(34.0)
    vertices = np.array([0, 33, 5], np.int32)
    total, count = gather(edges.first, edges.last, edges.neighbours, edges.weights, values, vertices)
    assert count == np.diff(weighted_club().indptr)[vertices].sum()
    assert total == pytest.approx((weighted_club() @ values)[vertices].sum())
