"""The weighted nearest-neighbour graph: symmetric, without self-loops, mean weight one.

An edge joins two points when either is among the other's k nearest. With mean weight one, the mean weighted degree
equals the mean number of edges of a vertex, so that epsilon of a walk means the same for every kind of weight.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from cluster.config import ClusterConfig, Weights
from cluster.neighbours import knn
from scale.errors import UserError

#: The neighbour whose distance is a point's own scale (Zelnik-Manor and Perona 2004).
SCALE_NEIGHBOUR = 7
#: Least weight of an edge before scaling: an edge that is there is never lost to underflow.
SMALLEST_WEIGHT = 1e-12


def knn_graph(
    X: npt.NDArray[Any],
    k: int = ClusterConfig.k,
    *,
    weights: Weights = ClusterConfig.weights,
    scale_neighbour: int = SCALE_NEIGHBOUR,
    recall: float = ClusterConfig.recall,
) -> sparse.csr_array:
    """The k-nearest-neighbour graph of the rows of X with float32 weights."""
    distances, neighbours, _ = knn(X, k, recall=recall)
    return graph_from_neighbours(distances, neighbours, weights=weights, scale_neighbour=scale_neighbour)


def graph_from_neighbours(
    distances: npt.NDArray[Any],
    neighbours: npt.NDArray[Any],
    *,
    weights: Weights = ClusterConfig.weights,
    scale_neighbour: int = SCALE_NEIGHBOUR,
) -> sparse.csr_array:
    """The same graph from distances and neighbours (N, k) of every point, self excluded, nearest first."""
    points, k = neighbours.shape
    if scale_neighbour < 1:
        raise UserError(f"scale_neighbour must be at least 1, got {scale_neighbour}")
    scale = distances[:, min(scale_neighbour, k) - 1].astype(np.float64)
    values = np.maximum(_similarity(distances.astype(np.float64), neighbours, scale, weights), SMALLEST_WEIGHT)
    one_way = sparse.csr_array(
        (values.ravel().astype(np.float32), neighbours.ravel().astype(np.int32), np.arange(0, points * k + 1, k)),
        shape=(points, points),
    )
    union = one_way.maximum(one_way.T).tocsr()
    union.sort_indices()
    union.data /= np.float32(union.data.mean(dtype=np.float64))
    return union


def _similarity(
    distances: npt.NDArray[np.float64], neighbours: npt.NDArray[Any], scale: npt.NDArray[np.float64], weights: Weights
) -> npt.NDArray[np.float64]:
    """Weights in (0, 1]: exp(-d^2 / (s_i s_j)), exp(-d^2 / median(s)^2), or one."""
    if weights == "unit":
        return np.ones_like(distances)
    positive = scale[scale > 0]
    if len(positive) == 0:
        return np.where(distances > 0, 0.0, 1.0)
    if weights == "gaussian":
        return np.exp(-np.square(distances / np.median(positive)))
    if weights == "self-tuning":
        # a point among duplicates has no scale of its own: it takes the least that any point has
        own = np.where(scale > 0, scale, positive.min())
        return np.exp(-np.square(distances) / (own[:, None] * own[neighbours]))
    raise UserError(f"weights must be self-tuning, gaussian or unit, got {weights}")
