"""Columns of a batch of clusters, sorted by cluster, cut into one piece for each."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


def bounds(clusters: NDArray[Any]) -> NDArray[np.int64]:
    """Where each cluster begins among rows sorted by cluster, and where the last one ends."""
    edges = np.flatnonzero(np.diff(clusters)) + 1
    return np.concatenate([[0], edges, [len(clusters)]]).astype(np.int64)


def cut(values: Any, ends: NDArray[np.int64]) -> list[Any]:
    """The pieces between consecutive bounds, of an array (views) or a list."""
    return [values[start:stop] for start, stop in pairwise(ends.tolist())]
