import numpy as np
from scipy import sparse

from cluster.push import solve
from cluster.walkgraph import WalkGraph
from cluster.walkstate import OPENED
from cluster.workspace import Workspace


def test_a_system_solved_exactly_below_zero_is_not_near_enough_and_no_error():
    """One vertex whose residual is far below half a line: one pass solves it, and nothing is left to divide by."""
    graph = WalkGraph.from_matrix(sparse.csr_array(np.array([[0.0, 2.0], [2.0, 0.0]])))
    space, epsilon = Workspace(graph), 1e-3
    space.walk(0, 0.1, epsilon)
    space.counters[OPENED] = 1
    space.state.r[space.state.opened[0]] = 0.0
    assert not solve(2 * 0.1 / 1.1, epsilon, space.here, space.state, space.counters)
    assert space.state.total[space.state.opened[0]] < 0
