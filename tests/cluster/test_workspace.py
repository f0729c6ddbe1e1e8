"""What a walk leaves behind: room, numbers, and pushes of many vertices at once."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from cluster.pagerank import approximate_pagerank
from cluster.walkgraph import WalkGraph
from cluster.walkstate import PUSHES, SOLUTIONS
from cluster.workspace import Workspace


def cycle(vertices: int) -> WalkGraph:
    ones = np.ones(vertices, np.float32)
    following = sparse.csr_array((ones, (np.arange(vertices), np.roll(np.arange(vertices), 1))))
    return WalkGraph.from_matrix(following + following.T)


def random_graph(vertices: int) -> WalkGraph:
    """About 20 edges a vertex, to anywhere: mass is soon everywhere."""
    half = sparse.random_array((vertices, vertices), density=10 / vertices, rng=np.random.default_rng(0)).tocsr()
    return WalkGraph.from_matrix(half + half.T)


def tight_groups(groups: int, size: int, weights: type = np.float64) -> sparse.csr_array:
    """Cliques in a ring, each joined to the next by one weak edge."""
    rng = np.random.default_rng(0)
    blocks = np.triu(rng.uniform(0.5, 1.5, (size, size)), 1)
    matrix = np.kron(np.eye(groups), blocks + blocks.T)
    for group in range(groups):
        here, there = group * size, (group + 1) % groups * size + 1
        matrix[here, there] = matrix[there, here] = 0.3
    return sparse.csr_array(matrix.astype(weights))


def outcome(space: Workspace) -> tuple[npt.NDArray[np.generic], ...]:
    return tuple(array.copy() for array in (space.reached, space.opened, space.p, space.r))


def test_walks_do_not_depend_on_what_was_walked_before() -> None:
    graph = WalkGraph.from_matrix(tight_groups(40, 20))
    used = Workspace(graph)
    for seed in range(0, 800, 97):
        used.walk(799 - seed, 1e-3, 1e-7)
        used.walk(seed, 1e-3, 1e-5)
        fresh = Workspace(graph)
        fresh.walk(seed, 1e-3, 1e-5)
        for before, after in zip(outcome(fresh), outcome(used), strict=True):
            np.testing.assert_array_equal(before, after)


def test_room_grows_in_the_middle_of_a_walk_without_a_trace() -> None:
    graph = random_graph(20_000)
    small, large = Workspace(graph), Workspace(graph)
    before = small.scratch
    large.walk(5, 1e-2, 1e-7)
    room = large.scratch
    large.walk(7, 1e-2, 1e-6)
    small.walk(7, 1e-2, 1e-6)
    assert 4 * before < small.scratch <= room == large.scratch
    for first, second in zip(outcome(small), outcome(large), strict=True):
        np.testing.assert_array_equal(first, second)


def test_scratch_follows_what_is_reached_and_not_the_graph() -> None:
    held = []
    for vertices in (20_000, 400_000):
        space = Workspace(cycle(vertices))
        space.walk(17, 0.1, 1e-6)
        assert 20 < len(space.reached) < 1000
        assert space.number.nbytes == 4 * vertices
        held.append(space.scratch)
    assert held[0] == held[1] < 2_000_000


def test_numbers_are_given_back() -> None:
    graph = WalkGraph.from_matrix(tight_groups(40, 20))
    space = Workspace(graph)
    for seed in (3, 250, 790):
        space.walk(seed, 1e-3, 1e-4)
        numbered = np.flatnonzero(space.number >= 0)
        np.testing.assert_array_equal(numbered, np.sort(space.reached))
        assert len(numbered) < len(graph)
        np.testing.assert_array_equal(space.number[space.reached], np.arange(len(space.reached)))


@pytest.mark.parametrize("weights", [np.float32, np.float64])
def test_pushes_that_would_repeat_are_made_at_once_and_lose_nothing(weights: type) -> None:
    """Mass leaves a clique of 30 slowly: one by one, about 1 / (2 alpha) pushes a vertex would be needed."""
    matrix = tight_groups(6, 30, weights)
    graph = WalkGraph.from_matrix(matrix)
    space = Workspace(graph)
    alpha, epsilon = 1e-4, 1e-8
    space.walk(4, alpha, epsilon)
    assert space.counters[SOLUTIONS] >= 1
    assert space.counters[PUSHES] < 100 * len(graph)
    assert space.p.sum() + space.r.sum() == pytest.approx(1, abs=1e-12)
    degree = graph.degree[space.reached]
    assert (space.r >= 0).all()
    assert (space.r < epsilon * degree).all()
    steps = matrix.toarray().astype(np.float64) / graph.degree
    lazy = (np.eye(len(graph)) + steps) / 2
    exact = np.linalg.solve(np.eye(len(graph)) - (1 - alpha) * lazy, alpha * np.eye(len(graph))[4])
    missing = exact[space.reached[space.opened]] - space.p
    assert (missing >= -1e-12).all()
    assert (missing <= epsilon * graph.degree[space.reached[space.opened]] + 1e-12).all()
    assert exact.max() > 1e4 * epsilon * degree.max()


def test_degrees_of_narrow_weights_are_summed_in_float64() -> None:
    rng = np.random.default_rng(1)
    half = sparse.random_array((3000, 3000), density=0.05, rng=rng, dtype=np.float32).tocsr()
    matrix = half.maximum(half.T).tocsr()
    graph = WalkGraph.from_matrix(matrix)
    exact = matrix.astype(np.float64).sum(axis=1)
    np.testing.assert_allclose(graph.degree, exact, rtol=1e-14)
    assert abs(np.asarray(matrix @ np.ones(3000, np.float32)) - exact).max() > 1e-6
    result = approximate_pagerank(graph, 5, alpha=1e-3, epsilon=1e-7)
    assert result.p.sum() + result.r.sum() == pytest.approx(1, abs=1e-12)


def test_edges_of_weight_zero_are_no_edges() -> None:
    weights = np.array([0.0, 0.0, 2.0, 2.0])
    matrix = sparse.csr_array((weights, ([0, 1, 1, 2], [1, 0, 2, 1])), shape=(3, 3))
    result = approximate_pagerank(matrix, 1, alpha=0.1, epsilon=1e-9)
    assert result.p.toarray().ravel()[0] == 0
    assert result.p.sum() + result.r.sum() == pytest.approx(1, abs=1e-12)
    assert approximate_pagerank(matrix, 0).p.toarray().ravel().tolist() == [1, 0, 0]
    assert matrix.nnz == 4
