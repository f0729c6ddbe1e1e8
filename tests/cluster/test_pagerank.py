"""The push against a dense solve of the lazy walk, and its invariants."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cluster.pagerank import approximate_pagerank, default_epsilon
from scale.errors import UserError

Dense = npt.NDArray[np.float64]


def dense_pagerank(weights: Dense, seed: int, alpha: float) -> Dense:
    """pr = alpha s + (1 - alpha) W pr with the lazy walk W = (I + A D^-1) / 2; an isolated vertex stays put."""
    degree = weights.sum(axis=0)
    steps = np.divide(weights, degree, out=np.eye(len(weights)), where=degree > 0)
    lazy = (np.eye(len(weights)) + steps) / 2
    start = np.eye(len(weights))[seed]
    return np.linalg.solve(np.eye(len(weights)) - (1 - alpha) * lazy, alpha * start)


def check_push(weights: Dense, seed: int, alpha: float, epsilon: float) -> None:
    result = approximate_pagerank(sparse.csr_array(weights), seed, alpha=alpha, epsilon=epsilon)
    p, r = result.p.toarray().ravel(), result.r.toarray().ravel()
    degree = weights.sum(axis=0)
    assert p.sum() + r.sum() == pytest.approx(1, abs=1e-12)
    assert (p >= 0).all()
    assert (r >= 0).all()
    assert (r[degree > 0] < epsilon * degree[degree > 0]).all()
    assert (r[degree == 0] == 0).all()
    missing = dense_pagerank(weights, seed, alpha) - p
    assert (missing >= -1e-12).all()
    assert (missing <= epsilon * degree + 1e-12).all()


def random_weights(seed: int, vertices: int, density: float, loops: bool) -> Dense:
    rng = np.random.default_rng(seed)
    half = np.triu(rng.random((vertices, vertices)) * (rng.random((vertices, vertices)) < density), k=1)
    return half + half.T + np.diag(rng.random(vertices) * loops)


@settings(max_examples=40, deadline=None)
@given(
    graph_seed=st.integers(0, 10**6),
    vertices=st.integers(1, 25),
    density=st.sampled_from([0.05, 0.2, 0.9]),
    loops=st.booleans(),
    alpha=st.sampled_from([0.001, 0.1, 0.8]),
    epsilon=st.sampled_from([1e-9, 1e-3, 10.0]),
)
def test_push_is_within_epsilon_of_the_dense_solution(
    graph_seed: int, vertices: int, density: float, loops: bool, alpha: float, epsilon: float
) -> None:
    weights = random_weights(graph_seed, vertices, density, loops)
    check_push(weights, graph_seed % vertices, alpha, epsilon)


@settings(max_examples=30, deadline=None)
@given(graph_seed=st.integers(0, 10**6), alpha=st.sampled_from([0.001, 0.1]), density=st.sampled_from([0.1, 0.5]))
def test_a_smaller_epsilon_leaves_less(graph_seed: int, alpha: float, density: float) -> None:
    """p falls nowhere by more than the smaller bound, and the residual and the largest error shrink with epsilon."""
    weights = random_weights(graph_seed, 20, density, True)
    degree, exact = weights.sum(axis=0), dense_pagerank(weights, 0, alpha)
    before, errors = np.zeros(20), []
    for epsilon in (1e-1, 1e-3, 1e-5, 1e-7):
        result = approximate_pagerank(sparse.csr_array(weights), 0, alpha=alpha, epsilon=epsilon)
        p = result.p.toarray().ravel()
        assert (p >= before - epsilon * degree).all()
        assert p.sum() >= before.sum() - 1e-12
        errors.append(np.max((exact - p)[degree > 0] / degree[degree > 0], initial=0.0))
        before = p
    assert errors == sorted(errors, reverse=True)


STAR = np.zeros((9, 9))
STAR[0, 1:] = STAR[1:, 0] = 1.0
PATH = np.diag(np.ones(11), 1) + np.diag(np.ones(11), -1)
CLIQUE = np.ones((8, 8)) - np.eye(8)
TWO_PARTS = np.kron(np.eye(2), CLIQUE)


@pytest.mark.parametrize("weights", [STAR, PATH, CLIQUE, TWO_PARTS], ids=["star", "path", "clique", "two parts"])
@pytest.mark.parametrize("epsilon", [1e-10, 1e-4])
def test_push_on_named_graphs(weights: Dense, epsilon: float) -> None:
    for seed in (0, len(weights) - 1):
        check_push(weights, seed, 1e-3, epsilon)


def test_a_small_epsilon_gives_the_dense_solution() -> None:
    weights = random_weights(3, 20, 0.3, True)
    found = approximate_pagerank(sparse.csr_array(weights), 4, alpha=0.05, epsilon=1e-14).p.toarray().ravel()
    np.testing.assert_allclose(found, dense_pagerank(weights, 4, 0.05), atol=1e-12)
    assert abs(found - dense_pagerank(weights, 4, 0.1)).max() > 1e-2


def test_nothing_leaves_a_part_of_the_graph() -> None:
    p = approximate_pagerank(sparse.csr_array(TWO_PARTS), 2, alpha=0.01, epsilon=1e-9).p.toarray().ravel()
    assert (p[:8] > 0).all()
    assert (p[8:] == 0).all()


def test_an_isolated_vertex_keeps_its_mass() -> None:
    weights = np.zeros((3, 3))
    weights[0, 1] = weights[1, 0] = 1.0
    result = approximate_pagerank(sparse.csr_array(weights), 2)
    assert result.p.toarray().ravel().tolist() == [0, 0, 1]
    assert result.r.nnz == 0


def test_the_mass_is_whole_after_a_long_walk() -> None:
    weights = random_weights(0, 400, 0.1, False)
    result = approximate_pagerank(sparse.csr_array(weights), 0, alpha=1e-3, epsilon=1e-9)
    assert result.p.nnz == 400
    assert result.p.sum() + result.r.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("index_type", [np.int32, np.int64])
@pytest.mark.parametrize("writeable", [True, False])
def test_index_types_and_read_only_arrays(index_type: type, writeable: bool) -> None:
    matrix = sparse.csr_array(random_weights(5, 30, 0.2, False))
    expected = approximate_pagerank(matrix, 3, epsilon=1e-6).p.toarray()
    parts = [matrix.data.copy(), matrix.indices.astype(index_type), matrix.indptr.astype(index_type)]
    for part in parts:
        part.flags.writeable = writeable
    same = sparse.csr_array(tuple(parts), shape=matrix.shape)
    np.testing.assert_array_equal(approximate_pagerank(same, 3, epsilon=1e-6).p.toarray(), expected)


def test_epsilon_keeps_the_explored_share_until_the_published_size() -> None:
    assert default_epsilon(1e5) * 1e5 == pytest.approx(28)
    assert default_epsilon(1e12) == 1e-7


def test_default_epsilon_is_used() -> None:
    matrix = sparse.csr_array(random_weights(2, 300, 0.1, False))
    default = approximate_pagerank(matrix, 0)
    same = approximate_pagerank(matrix, 0, epsilon=28 / matrix.sum())
    finer = approximate_pagerank(matrix, 0, epsilon=1 / matrix.sum())
    np.testing.assert_allclose(default.p.toarray(), same.p.toarray(), rtol=1e-12)
    assert finer.p.nnz > default.p.nnz


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((2, 3)), "square"),
        (np.array([[0.0, -1.0], [-1.0, 0.0]]), "weights"),
        (np.array([[0.0, np.nan], [np.nan, 0.0]]), "weights"),
        (np.array([[0.0, 1.0], [2.0, 0.0]]), "symmetric"),
    ],
)
def test_a_graph_that_cannot_be_walked_is_refused(weights: Dense, message: str) -> None:
    with pytest.raises(UserError, match=message):
        approximate_pagerank(sparse.csr_array(weights), 0)


def test_settings_out_of_range_are_refused() -> None:
    matrix = sparse.csr_array(CLIQUE)
    with pytest.raises(UserError, match="seed"):
        approximate_pagerank(matrix, 8)
    with pytest.raises(UserError, match="alpha"):
        approximate_pagerank(matrix, 0, alpha=1.0)
    with pytest.raises(UserError, match="epsilon"):
        approximate_pagerank(matrix, 0, epsilon=0.0)
