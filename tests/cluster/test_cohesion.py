"""Cohesion against the best of all splits."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from scipy import sparse

from cluster.cohesion import cohesion, cohesions
from cluster.walkgraph import WalkGraph


def best_split(graph: nx.Graph) -> float:
    members = list(graph)
    halves = (side for size in range(1, len(members) // 2 + 1) for side in combinations(members, size))
    return min(nx.conductance(graph, side, weight="weight") for side in halves)


def found(graph: nx.Graph) -> float:
    walk_graph = WalkGraph.from_matrix(nx.to_scipy_sparse_array(graph, dtype=float))
    members = np.arange(len(walk_graph), dtype=np.int32)
    return cohesion(walk_graph, members, np.full(len(walk_graph), -1, np.int32))


@pytest.mark.parametrize(
    "graph",
    [nx.complete_graph(8), nx.cycle_graph(12), nx.star_graph(7), nx.path_graph(9), nx.barbell_graph(5, 1),
     nx.petersen_graph(), nx.wheel_graph(9), nx.lollipop_graph(6, 3)],
    ids=["complete", "cycle", "star", "path", "barbell", "Petersen", "wheel", "lollipop"],
)  # fmt: skip
def test_within_cheegers_bound_of_the_best_split(graph: nx.Graph) -> None:
    best, ours = best_split(graph), found(graph)
    eigenvalue = np.sort(np.linalg.eigvalsh(nx.normalized_laplacian_matrix(graph).toarray()))[1]
    assert best - 1e-12 <= ours <= np.sqrt(2 * eigenvalue) + 1e-9


def test_a_set_that_is_two_has_none_and_one_that_is_one_has_much() -> None:
    assert found(nx.disjoint_union(nx.complete_graph(20), nx.complete_graph(25))) == pytest.approx(0, abs=1e-12)
    assert found(nx.barbell_graph(20, 0)) == pytest.approx(best_of_barbell(20))
    assert found(nx.complete_graph(40)) > 0.5


def best_of_barbell(size: int) -> float:
    return 1 / (size * (size - 1) + 1)


def test_every_cluster_is_judged_by_its_own_edges_alone() -> None:
    parts = [nx.complete_graph(12), nx.barbell_graph(8, 0), nx.cycle_graph(9)]
    whole = nx.to_scipy_sparse_array(nx.disjoint_union_all(parts), dtype=float).tolil()
    whole[0, 12] = whole[12, 0] = 5.0
    whole[3, 30] = whole[30, 3] = 5.0
    order = np.random.default_rng(0).permutation(whole.shape[0])
    graph = WalkGraph.from_matrix(sparse.csr_array(whole.tocsr()[order][:, order]))
    labels = np.repeat([0, 1, -1], [12, 16, 9])[order].astype(np.int32)
    judged = cohesions(graph, labels)
    assert len(judged) == 2
    assert judged[0] > 0.5
    assert judged[1] == pytest.approx(best_of_barbell(8))
    assert len(cohesions(graph, np.full(len(graph), -1, np.int32))) == 0


def test_a_single_member_cannot_be_split() -> None:
    graph = WalkGraph.from_matrix(nx.to_scipy_sparse_array(nx.path_graph(3), dtype=float))
    assert cohesions(graph, np.array([-1, 0, -1], np.int32)).tolist() == [1]
