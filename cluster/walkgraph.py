"""A symmetric weighted graph in the form that walks read."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.walkstate import Edges, Vector, Vertices
from scale.errors import UserError

#: Below it a walk's mass could underflow.
SMALLEST_WEIGHT = 1e-30


@dataclass(frozen=True)
class WalkGraph:
    """Arrays of a graph, read-only.

    Args:
        indptr: Where each vertex's edges start (int64, N + 1).
        indices: The other end of each edge (int32).
        weights: Weight of each edge, above 0 (float32 or float64).
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
        if (rows.data == 0).any():
            rows = rows.copy()
            rows.eliminate_zeros()
        if rows.nnz and not (np.isfinite(rows.data).all() and rows.data.min() >= SMALLEST_WEIGHT):
            raise UserError(f"graph weights must be finite and 0 or at least {SMALLEST_WEIGHT}")
        if abs(rows - rows.T).max() != 0:
            raise UserError("graph must be symmetric: use graph.maximum(graph.T)")
        return cls.from_arrays(rows.indptr, rows.indices, rows.data)

    @classmethod
    def from_arrays(cls, indptr: npt.NDArray[Any], indices: npt.NDArray[Any], weights: npt.NDArray[Any]) -> "WalkGraph":
        """Take arrays that are known to be those of such a matrix."""
        weights = weights if weights.dtype == np.float32 else weights.astype(np.float64, copy=False)
        starts = indptr.astype(np.int64, copy=False)
        degree = np.zeros(len(starts) - 1)
        occupied = np.diff(starts) > 0
        # summed in float64: mass is lost where a degree is not the sum of its weights
        degree[occupied] = np.add.reduceat(weights, starts[:-1][occupied], dtype=np.float64)
        numbers = indices.astype(np.int32, copy=False)
        volume = float(degree.sum())
        return cls(_read_only(starts), _read_only(numbers), _read_only(weights), _read_only(degree), volume)

    @cached_property
    def edges(self) -> Edges:
        """The same arrays as the kernels take them."""
        return Edges(self.indptr[:-1], self.indptr[1:], self.indices, self.weights, self.degree)

    @cached_property
    def widest(self) -> int:
        """Most edges of a vertex."""
        return int(np.diff(self.indptr).max())

    def __len__(self) -> int:
        return len(self.degree)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
