"""Solvers of personalised PageRank for the whole graph: each gives a function from a seed to the vector.

The lazy walk with teleport probability alpha has the PageRank of the walk that never waits with damping
(1 - alpha) / (1 + alpha); degrees take the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Solve = Callable[[int], npt.NDArray[np.float64]]


def damping(alpha: float) -> float:
    return (1.0 - alpha) / (1.0 + alpha)


def power_iteration(matrix: Any, alpha: float, epsilon: float) -> Solve:
    """scipy: p <- (1 - c) s + c A D^-1 p until what is missing is below epsilon per degree."""
    degree = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    steps = (matrix @ sparse.diags_array(1.0 / np.maximum(degree, np.finfo(float).tiny))).tocsr()
    keep = damping(alpha)

    def solve(seed: int) -> npt.NDArray[np.float64]:
        start = np.zeros(len(degree))
        start[seed] = 1.0 - keep
        found = start.copy()
        while True:
            after = start + keep * (steps @ found)
            if (np.abs(after - found) <= (1.0 - keep) * epsilon * degree).all():
                return np.asarray(after)
            found = after

    return solve


def igraph_prpack(matrix: Any, alpha: float, epsilon: float) -> Solve:
    """igraph's PRPACK, which has no tolerance to set."""
    import igraph

    upper = sparse.triu(matrix).tocoo()
    graph = igraph.Graph(n=matrix.shape[0], edges=np.column_stack([upper.row, upper.col]))
    weights = upper.data.tolist()
    return lambda seed: np.array(
        graph.personalized_pagerank(reset_vertices=[seed], damping=damping(alpha), weights=weights, directed=False)
    )


def scikit_network(matrix: Any, alpha: float, epsilon: float) -> Solve:
    """scikit-network's power iteration, at its default tolerance."""
    from sknetwork.ranking import PageRank

    ranking = PageRank(damping_factor=damping(alpha), solver="piteration", n_iter=1000, tol=1e-6)
    rows = sparse.csr_matrix(matrix)
    return lambda seed: np.asarray(ranking.fit_predict(rows, weights={seed: 1.0}))


PEERS: dict[str, Callable[[Any, float, float], Solve]] = {
    "igraph": igraph_prpack,
    "scikit-network": scikit_network,
    "scipy": power_iteration,
}
