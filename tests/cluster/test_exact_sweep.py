"""The sweep of the pushed vector beside that of the exact one, and of every named small graph beside brute force."""

from collections.abc import Callable
from typing import NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse
from scipy.sparse.linalg import splu

from cluster.graph import knn_graph
from cluster.pagerank import approximate_pagerank
from cluster.sweep import Sweep, sweep_cut
from cluster.walkgraph import WalkGraph

SHELF = {
    "karate club": nx.karate_club_graph(),
    "les misérables": nx.les_miserables_graph(),
    "Davis's women": nx.davis_southern_women_graph(),
    "Florentine families": nx.florentine_families_graph(),
    "Krackhardt's kite": nx.krackhardt_kite_graph(),
    "Petersen": nx.petersen_graph(),
    "dodecahedron": nx.dodecahedral_graph(),
    "Tutte": nx.tutte_graph(),
    "cavemen": nx.connected_caveman_graph(5, 6),
    "star": nx.star_graph(9),
    "path": nx.path_graph(14),
    "clique": nx.complete_graph(9),
    "two parts": nx.disjoint_union(nx.complete_graph(6), nx.cycle_graph(8)),
}


@pytest.mark.parametrize("name", SHELF)
def test_every_prefix_on_the_shelf_in_both_conventions(name: str) -> None:
    """Leaving over the smaller side's volume; and, up to half the volume, leaving / (leaving + staying)."""
    graph = SHELF[name]
    weights = nx.to_numpy_array(graph, weight="weight")
    matrix = sparse.csr_array(weights)
    for seed in (0, len(weights) // 2, len(weights) - 1):
        found = sweep_cut(matrix, approximate_pagerank(matrix, seed, alpha=0.02, epsilon=1e-8).p)
        inside = np.zeros(len(weights), bool)
        for position, vertex in enumerate(found.order):
            inside[vertex] = True
            leaving, staying = weights[inside][:, ~inside].sum(), weights[inside][:, inside].sum()
            smaller = min(leaving + staying, weights[~inside].sum())
            expected = leaving / smaller if smaller > 0 else 1.0
            assert found.conductance[position] == pytest.approx(expected, abs=1e-12)
            if smaller == leaving + staying > 0:
                assert found.conductance[position] == pytest.approx(leaving / (leaving + staying), abs=1e-12)
        assert found.conductance[len(found.best) - 1] == found.conductance.min()


class Solved(NamedTuple):
    """A graph, and a function from a seed to its exact PageRank."""

    graph: WalkGraph
    pagerank: Callable[[int], npt.NDArray[np.float64]]


class Both(NamedTuple):
    exact: npt.NDArray[np.float64]
    of_exact: Sweep
    of_pushed: Sweep


ALPHA = 0.01


@pytest.fixture(scope="module")
def solved() -> Solved:
    """Neighbours among groups of several sizes in a cloud; the lazy walk's system is factorised by SuperLU."""
    rng = np.random.default_rng(3)
    groups = [rng.standard_normal(8) * 1.5 + 0.4 * rng.standard_normal((size, 8)) for size in (30, 60, 120)]
    points = np.concatenate([rng.standard_normal((900, 8)), *groups])
    matrix = knn_graph(points.astype(np.float32), 12).astype(np.float64)
    steps = matrix @ sparse.diags_array(1 / matrix.sum(axis=0))
    identity = sparse.eye_array(len(points))
    system = splu((identity - (1 - ALPHA) * (identity + steps) / 2).tocsc())
    return Solved(WalkGraph.from_matrix(matrix), lambda seed: system.solve(ALPHA * np.eye(1, len(points), seed)[0]))


def both(solved: Solved, seed: int, epsilon: float) -> Both:
    exact = solved.pagerank(seed)
    pushed = approximate_pagerank(solved.graph, seed, alpha=ALPHA, epsilon=epsilon).p
    return Both(exact, sweep_cut(solved.graph, exact), sweep_cut(solved.graph, pushed))


def is_decided(density: npt.NDArray[np.float64], members: npt.NDArray[np.int32], epsilon: float) -> bool:
    """Whether every vertex of the set stays before every other when p / degree falls by less than epsilon anywhere."""
    inside = np.zeros(len(density), bool)
    inside[members] = True
    return bool(density[inside].min() - epsilon >= density[~inside].max())


def test_the_same_set_is_chosen_where_the_bound_decides(solved: Solved) -> None:
    decided = {1e-9: 0, 3e-4: 0}
    for epsilon in decided:
        for seed in range(900, 1110, 15):
            exact, of_exact, of_pushed = both(solved, seed, epsilon)
            if is_decided(exact / solved.graph.degree, of_exact.best, epsilon):
                decided[epsilon] += 1
                assert set(of_pushed.best) == set(of_exact.best)
    assert decided[1e-9] >= 12
    assert decided[3e-4] < 12


def test_elsewhere_orders_differ_only_within_the_bound(solved: Solved) -> None:
    swapped = 0
    for seed in range(0, 1110, 100):
        epsilon = 1e-5
        exact, _, of_pushed = both(solved, seed, epsilon)
        density = (exact / solved.graph.degree)[of_pushed.order]
        later = np.maximum.accumulate(density[::-1])[::-1]
        assert (later - density < epsilon).all()
        swapped += int((later > density + 1e-12).sum())
    assert swapped > 0
