"""Localized personalised PageRank by the push of Andersen, Chung and Lang (FOCS 2006).

For a graph with symmetric weights A, degrees D = diag(A 1) and a seed distribution s, the PageRank vector of the
lazy walk W = (I + A D^-1) / 2 is the solution of

    pr(s) = alpha s + (1 - alpha) W pr(s).

A push keeps pr(s) = p + pr(r) while it moves residual r into p, until r < epsilon D at every vertex; then
0 <= pr(s) - p < epsilon D entrywise, and p + r sums to one. The walk that never waits, with teleport probability
2 alpha / (1 + alpha), has the same pr and the same invariant, and empties a vertex in one push instead of many:
that is the walk pushed here. A vertex without edges keeps all of its mass.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from scipy import sparse

from cluster.config import ClusterConfig
from scale.errors import UserError

#: A walk's epsilon times the volume of the graph, at which published results on 4 million points were obtained.
EXPLORED_SHARE = 28.0
SMALLEST_EPSILON = 1e-7
#: Below it a walk's mass could underflow.
SMALLEST_WEIGHT = 1e-30

Vector = npt.NDArray[np.float64]
Vertices = npt.NDArray[np.int32]


class PageRank(NamedTuple):
    """Sparse column vectors (N, 1): the approximate PageRank `p` and what was left unpushed, the residual `r`."""

    p: sparse.csc_array
    r: sparse.csc_array


@dataclass(frozen=True)
class WalkGraph:
    """A symmetric weighted graph in the form that the kernels read; its arrays are read-only.

    Args:
        indptr: Where each vertex's edges start (int64, N + 1).
        indices: The other end of each edge (int32).
        weights: Weight of each edge (float32 or float64).
        degree: Sum of the weights at each vertex, a self-loop counted once (float64, N).
        volume: Sum of the degrees.
    """

    indptr: npt.NDArray[np.int64]
    indices: Vertices
    weights: npt.NDArray[Any]
    degree: Vector
    volume: float

    @classmethod
    def from_matrix(cls, matrix: Any) -> "WalkGraph":
        """Check a scipy sparse matrix (square, symmetric, weights finite and not negative) and take its arrays."""
        rows = matrix.tocsr()
        if rows.ndim != 2 or rows.shape[0] != rows.shape[1] or rows.shape[0] == 0:
            raise UserError(f"graph must be square and not empty, got shape {rows.shape}")
        edges = rows.data[rows.data != 0]
        if len(edges) and not (np.isfinite(edges).all() and edges.min() >= SMALLEST_WEIGHT):
            raise UserError(f"graph weights must be finite and 0 or at least {SMALLEST_WEIGHT}")
        if abs(rows - rows.T).max() != 0:
            raise UserError("graph must be symmetric: use graph.maximum(graph.T)")
        data = rows.data if rows.data.dtype == np.float32 else rows.data.astype(np.float64)
        degree = np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()
        return cls(
            _read_only(rows.indptr.astype(np.int64)),
            _read_only(rows.indices.astype(np.int32)),
            _read_only(data),
            _read_only(degree),
            float(degree.sum()),
        )

    def __len__(self) -> int:
        return len(self.degree)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


class Workspace:
    """Scratch of one thread for walks on graphs of N vertices: all zeros (rank: -1) between two walks."""

    def __init__(self, vertices: int) -> None:
        self.p = np.zeros(vertices)
        self.r = np.zeros(vertices)
        self.queues = np.empty((2, vertices + 1), np.int32)
        self.touched = np.empty(vertices, np.int32)
        self.rank = np.full(vertices, -1, np.int32)


def default_epsilon(volume: float) -> float:
    """The epsilon with which a walk explores the same share of a small graph as of a large one."""
    return max(SMALLEST_EPSILON, EXPLORED_SHARE / volume) if volume > 0 else SMALLEST_EPSILON


def push_walk(graph: WalkGraph, seed: int, alpha: float, epsilon: float, space: Workspace) -> Vertices:
    """Leave p and r of one seed in the workspace; returns every vertex at which p or r is not zero."""
    touched = push(
        graph.indptr, graph.indices, graph.weights, graph.degree, seed, alpha, epsilon,
        space.p, space.r, space.queues, space.touched,
    )  # fmt: skip
    return space.touched[:touched]


def approximate_pagerank(
    graph: Any, seed: int, *, alpha: float = ClusterConfig.alpha, epsilon: float | None = ClusterConfig.epsilon
) -> PageRank:
    """PageRank of the lazy walk that restarts at `seed` with probability `alpha`, r < epsilon * degree everywhere.

    `graph` is a symmetric scipy sparse matrix or a `WalkGraph`.
    """
    walk_graph = graph if isinstance(graph, WalkGraph) else WalkGraph.from_matrix(graph)
    if not 0 <= seed < len(walk_graph):
        raise UserError(f"seed must be a vertex from 0 to {len(walk_graph) - 1}, got {seed}")
    if not 0 < alpha < 1:
        raise UserError(f"alpha must be between 0 and 1, got {alpha}")
    if epsilon is not None and epsilon <= 0:
        raise UserError(f"epsilon must be above 0, got {epsilon}")
    space = Workspace(len(walk_graph))
    tolerance = default_epsilon(walk_graph.volume) if epsilon is None else epsilon
    touched = np.sort(push_walk(walk_graph, seed, alpha, tolerance, space))
    return PageRank(_column(space.p, touched), _column(space.r, touched))


def _column(values: Vector, candidates: Vertices) -> sparse.csc_array:
    rows = candidates[values[candidates] != 0]
    return sparse.csc_array((values[rows], rows, np.array([0, len(rows)])), shape=(len(values), 1))


@numba.njit(cache=True, nogil=True)
def push(indptr, indices, weights, degree, seed, alpha, epsilon, p, r, queues, touched):  # type: ignore[no-untyped-def]
    """Push residuals first come, first served, in rounds; returns how many entries of `touched` are filled.

    A vertex waits in a queue exactly while r >= epsilon * degree, so no flags are needed: it enters when an addition
    lifts it over that line, and a push takes its residual to zero. Every neighbour is written behind the end of the
    next queue and counted only if it was lifted: a branch there is unpredictable and made the push 2.5 times slower.
    Unsigned indices spare numba's handling of negative ones. Each vertex is listed in `touched` once, when its first
    residual arrives.
    """
    touched[0] = seed
    if degree[seed] == 0.0:
        p[seed] = 1.0
        return 1
    keep = 2.0 * alpha / (1.0 + alpha)
    touches = 1
    r[seed] = 1.0
    now, later = queues[0], queues[1]
    now[0] = seed
    waiting = np.int64(epsilon * degree[seed] <= 1.0)
    while waiting > 0:
        lifted = np.int64(0)
        for u in now[:waiting]:
            mass = r[u]
            p[u] += keep * mass
            r[u] = 0.0
            share = (1.0 - keep) * mass / degree[u]
            for edge in range(np.uintp(indptr[u]), np.uintp(indptr[u + 1])):
                v = np.uintp(indices[edge])
                before = r[v]
                after = before + share * weights[edge]
                r[v] = after
                line = epsilon * degree[v]
                later[np.uintp(lifted)] = v
                lifted += np.int64(before < line) & np.int64(after >= line)
                if before == 0.0 and after > 0.0 and p[v] == 0.0:
                    touched[touches] = v
                    touches += 1
        now, later = later, now
        waiting = lifted
    return touches


@numba.njit(cache=True, nogil=True)
def clear(touched, p, r):  # type: ignore[no-untyped-def]
    """Return the workspace to zeros in time proportional to what the walk touched."""
    for v in touched:
        p[v] = 0.0
        r[v] = 0.0
