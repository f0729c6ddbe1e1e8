"""A sample of tokens for the map, each placed among the clusters nearest to it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.neighbours import knn

# Nearest clusters whose places are averaged, and tokens drawn.
AMONG = 3
SAMPLE = 12_000


def sample_rows(blocks: Iterator[NDArray[Any]], rows: int) -> NDArray[np.float64]:
    """Every n-th row, so that at most `SAMPLE` come together."""
    step, start, found = max(1, -(-rows // SAMPLE)), 0, []
    for block in blocks:
        found.append(np.asarray(block[-start % step :: step], np.float64))
        start += len(block)
    return np.concatenate(found)


def settle(points: NDArray[np.float64], centroids: NDArray[np.float64], xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean place of the `AMONG` nearest centroids, weighted by 1 / d⁴: close to one, or between several."""
    if len(centroids) == 0:
        return np.zeros((0, 2))
    found = knn(centroids.astype(np.float32), min(AMONG, len(centroids)), queries=points.astype(np.float32))
    weights = 1 / np.maximum(np.asarray(found.distances, np.float64), 1e-6) ** 4
    return (weights[:, :, None] * xy[found.neighbours]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
