"""Sweep cuts against brute force."""

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cluster.pagerank import approximate_pagerank
from cluster.sweep import LAST, innermost, set_conductance, sweep_cut
from cluster.walkgraph import WalkGraph
from scale.errors import UserError

Dense = npt.NDArray[np.float64]


def brute_conductance(weights: Dense, members: list[int]) -> float:
    inside = np.isin(np.arange(len(weights)), members)
    cut = weights[inside][:, ~inside].sum()
    smaller = min(weights[inside].sum(), weights[~inside].sum())
    return float(cut / smaller) if smaller > 1e-12 else 1.0


def random_weights(seed: int, vertices: int) -> Dense:
    rng = np.random.default_rng(seed)
    half = np.triu(rng.random((vertices, vertices)) * (rng.random((vertices, vertices)) < 0.3), k=1)
    return half + half.T + np.diag(rng.random(vertices) * (rng.random(vertices) < 0.3))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), vertices=st.integers(2, 18))
def test_every_prefix_has_its_conductance(seed: int, vertices: int) -> None:
    weights = random_weights(seed, vertices)
    p = np.random.default_rng(seed).random(vertices) * (np.random.default_rng(seed + 1).random(vertices) < 0.8)
    found = sweep_cut(sparse.csr_array(weights), p)
    degree = weights.sum(axis=0)
    with np.errstate(divide="ignore"):
        expected = sorted(np.flatnonzero(p > 0), key=lambda v: (-np.divide(p[v], degree[v]), v))
    assert found.order.tolist() == expected
    prefixes = [expected[: size + 1] for size in range(len(expected))]
    np.testing.assert_allclose(found.conductance, [brute_conductance(weights, s) for s in prefixes], atol=1e-12)
    np.testing.assert_allclose(found.volume, [degree[s].sum() for s in prefixes], atol=1e-12)


def test_ties_are_broken_by_number() -> None:
    cycle = nx.to_scipy_sparse_array(nx.cycle_graph(400), dtype=float)
    found = sweep_cut(cycle, np.ones(400))
    assert found.order.tolist() == list(range(400))
    assert found.best.tolist() == list(range(200))
    assert found.conductance[-1] == 1


def test_a_whole_graph_is_never_the_best_cut() -> None:
    for seed in range(20):
        weights = random_weights(seed, 12)
        weights[9:] = weights[:, 9:] = 0
        found = sweep_cut(sparse.csr_array(weights), np.arange(12, 0, -1.0) * (np.arange(12) < 9))
        assert len(found.order) == 9
        assert found.conductance[-1] == 1
        assert len(found.best) < len(found.order)


def test_karate_club_splits_as_networkx_says() -> None:
    club = nx.karate_club_graph()
    matrix = nx.to_scipy_sparse_array(club, weight="weight", dtype=float)
    found = sweep_cut(matrix, approximate_pagerank(matrix, 0, alpha=0.01, epsilon=1e-9).p)
    for size in (1, 5, len(found.best), 30):
        expected = nx.conductance(club, found.order[:size].tolist(), weight="weight")
        assert found.conductance[size - 1] == pytest.approx(expected)
    instructor = {v for v in club if club.nodes[v]["club"] == "Mr. Hi"}
    assert len(instructor ^ set(found.best.tolist())) <= 2
    assert found.conductance.min() == found.conductance[len(found.best) - 1] < 0.15


def test_smallest_size_of_the_best_prefix() -> None:
    matrix = nx.to_scipy_sparse_array(nx.barbell_graph(5, 0), dtype=float)
    found = sweep_cut(matrix, approximate_pagerank(matrix, 0, alpha=0.01, epsilon=1e-9).p)
    assert sorted(found.best.tolist()) == [0, 1, 2, 3, 4]
    assert found.conductance[4] == pytest.approx(1 / 21)
    assert found.best_size(6) >= 6
    assert found.best_size(11) == 0


def test_conductance_of_a_set() -> None:
    weights = random_weights(4, 15)
    graph = WalkGraph.from_matrix(sparse.csr_array(weights))
    rank = np.full(15, LAST, np.int32)
    members = np.array([3, 7, 8, 14], np.int32)
    conductance, volume = set_conductance(graph.edges, graph.volume, members, rank)
    assert conductance == pytest.approx(brute_conductance(weights, members.tolist()))
    assert volume == pytest.approx(weights[members].sum())
    assert (rank == LAST).all()


def test_innermost_vertex_has_the_largest_share_inside() -> None:
    weights = random_weights(4, 15)
    graph = WalkGraph.from_matrix(sparse.csr_array(weights))
    for members in ([3, 7, 8, 14], [0, 1, 2, 3, 4, 5, 6]):
        shares = weights[np.ix_(members, members)].sum(axis=1) / weights[members].sum(axis=1)
        found = innermost(graph.edges, np.array([*members, 9], np.int32), len(members), 15)
        assert found == members[int(np.argmax(shares))]


def test_a_vector_of_another_graph_is_refused() -> None:
    with pytest.raises(UserError, match="vertices"):
        sweep_cut(sparse.csr_array(random_weights(0, 5)), np.ones(6))
