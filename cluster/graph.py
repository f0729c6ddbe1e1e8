"""The weighted nearest-neighbour graph: symmetric, without self-loops, mean weight one.

An edge joins two points when either is among the other's k nearest. With mean weight one, the mean weighted degree
equals the mean number of edges of a vertex, so that epsilon of a walk means the same for every kind of weight.
"""

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from scipy import sparse

from cluster.config import ClusterConfig, Method, Weights
from cluster.neighbours import knn
from cluster.union import Allocate, in_memory, union
from scale.errors import UserError

#: The neighbour whose distance is a point's own scale (Zelnik-Manor and Perona 2004).
SCALE_NEIGHBOUR = 7
#: Least weight of an edge before scaling: an edge that is there is never lost to underflow.
SMALLEST_WEIGHT = 1e-12
#: Points whose weights are computed at once, in double precision.
BLOCK = 1 << 16


def knn_graph(
    X: npt.NDArray[Any],
    k: int = ClusterConfig.k,
    *,
    weights: Weights = ClusterConfig.weights,
    scale_neighbour: int = SCALE_NEIGHBOUR,
    recall: float = ClusterConfig.recall,
    search: Method = ClusterConfig.search,
) -> sparse.csr_array:
    """The k-nearest-neighbour graph of the rows of X with float32 weights."""
    distances, neighbours, _ = knn(X, k, recall=recall, search=search)
    return graph_from_neighbours(distances, neighbours, weights=weights, scale_neighbour=scale_neighbour)


def graph_from_neighbours(
    distances: npt.NDArray[Any],
    neighbours: npt.NDArray[Any],
    *,
    weights: Weights = ClusterConfig.weights,
    scale_neighbour: int = SCALE_NEIGHBOUR,
) -> sparse.csr_array:
    """The same graph from distances and neighbours (N, k) of every point, self excluded, nearest first."""
    return as_matrix(*graph_arrays(distances, neighbours, weights, scale_neighbour))


def graph_arrays(
    distances: npt.NDArray[Any],
    neighbours: npt.NDArray[Any],
    weights: Weights = ClusterConfig.weights,
    scale_neighbour: int = SCALE_NEIGHBOUR,
    allocate: Allocate = in_memory,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Its `indptr`, `indices` and weights."""
    if scale_neighbour < 1:
        raise UserError(f"scale_neighbour must be at least 1, got {scale_neighbour}")
    scale = distances[:, min(scale_neighbour, distances.shape[1]) - 1].astype(np.float64)
    one_way = np.empty(distances.shape, np.float32)
    similarity = _similarity(scale, weights)
    for start in range(0, len(distances), BLOCK):
        block = slice(start, start + BLOCK)
        near = similarity(distances[block].astype(np.float64), scale[block], neighbours[block])
        np.maximum(near, SMALLEST_WEIGHT, out=one_way[block], casting="same_kind")
    indptr, indices, values = union(neighbours, one_way, allocate)
    values /= np.float32(values.mean(dtype=np.float64))
    return indptr, indices, values


def as_matrix(
    indptr: npt.NDArray[np.int64], indices: npt.NDArray[np.int32], weights: npt.NDArray[Any]
) -> sparse.csr_array:
    """The same arrays as scipy has them, which wants both kinds of numbers of one type."""
    points = len(indptr) - 1
    numbers = np.int32 if len(indices) <= np.iinfo(np.int32).max else np.int64
    starts, ends = indptr.astype(numbers, copy=False), indices.astype(numbers, copy=False)
    return sparse.csr_array((weights, ends, starts), shape=(points, points))


def _similarity(scale: npt.NDArray[np.float64], weights: Weights) -> Callable[..., npt.NDArray[np.float64]]:
    """Weights in (0, 1] from distances (rows, k), the scales of those rows, and their neighbours (rows, k):
    exp(-d^2 / (s_i s_j)), exp(-d^2 / median(s)^2), or one."""
    if weights not in get_args(Weights):
        raise UserError(f"weights must be self-tuning, gaussian or unit, got {weights}")
    positive = scale[scale > 0]
    if weights == "unit":
        return lambda distances, own, near: np.ones_like(distances)
    if len(positive) == 0:
        return lambda distances, own, near: np.where(distances > 0, 0.0, 1.0)
    if weights == "gaussian":
        middle = np.median(positive)
        return lambda distances, own, near: np.exp(-np.square(distances / middle))
    # a point among duplicates has no scale of its own: it takes the least that any point has
    least = positive.min()
    scales = np.where(scale > 0, scale, least)
    return lambda distances, own, near: np.exp(
        -np.square(distances) / (np.where(own > 0, own, least)[:, None] * scales[near])
    )
