"""Localized personalised PageRank by the push of Andersen, Chung and Lang (FOCS 2006).

For a graph with symmetric weights A, degrees D = diag(A 1) and a seed distribution s, the PageRank vector of the
lazy walk W = (I + A D^-1) / 2 is the solution of

    pr(s) = alpha s + (1 - alpha) W pr(s).

A push keeps pr(s) = p + pr(r) while it moves residual r into p, until r < epsilon D at every vertex; then
0 <= pr(s) - p < epsilon D entrywise, and p + r sums to one. The walk that never waits, with teleport probability
2 alpha / (1 + alpha), has the same pr and the same invariant, and needs fewer pushes: that is the walk pushed here
(`cluster.push`). A vertex without edges keeps all of its mass.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from cluster.config import ClusterConfig
from cluster.walkgraph import WalkGraph
from cluster.walkstate import Vector, Vertices
from cluster.workspace import Workspace
from scale.errors import UserError

#: A walk's epsilon times the volume of the graph, as published: a walk ends before it fills a 28th of the graph, and
#: cannot find larger clusters. A smaller one finds them, for far more work in the cloud (docs/LOG.md).
EXPLORED_SHARE = 28.0
#: The published epsilon, for 4 million points.
SMALLEST_EPSILON = 1e-7


class PageRank(NamedTuple):
    """Sparse column vectors (N, 1): the approximate PageRank `p` and what was left unpushed, the residual `r`."""

    p: sparse.csc_array
    r: sparse.csc_array


def default_epsilon(volume: float) -> float:
    """The epsilon with which a walk explores the same share of a small graph as of a large one."""
    return max(SMALLEST_EPSILON, EXPLORED_SHARE / volume) if volume > 0 else SMALLEST_EPSILON


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
    space = Workspace(walk_graph)
    space.walk(seed, alpha, default_epsilon(walk_graph.volume) if epsilon is None else epsilon)
    return PageRank(
        _column(len(walk_graph), space.reached[space.opened], space.p),
        _column(len(walk_graph), space.reached, space.r),
    )


def _column(rows: int, vertices: Vertices, values: Vector) -> sparse.csc_array:
    order = np.argsort(vertices)
    order = order[values[order] != 0]
    return sparse.csc_array((values[order], vertices[order], np.array([0, len(order)])), shape=(rows, 1))
