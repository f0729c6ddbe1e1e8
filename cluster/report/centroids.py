"""Where the clusters lie: the mean of their members, and how it stands out, from one pass over the predictions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.whitening import Whitening, WhiteningAccumulator


@dataclass(frozen=True)
class Centroids:
    """`whitened` (clusters, dimensions) is where distances between clusters are taken.

    `profile` (clusters, PCs) is the mean of each PC in units of its standard deviation over all rows, `whitening` what
    any row goes through to lie among the centroids.
    """

    whitened: NDArray[np.float64]
    profile: NDArray[np.float64]
    whitening: Whitening


class CentroidAccumulator:
    """Sums of the members' coordinates by cluster, and what whitening needs of all rows."""

    def __init__(self, clusters: int, dimensions: int) -> None:
        self.counts = np.zeros(clusters, np.int64)
        self.sums = np.zeros((clusters, dimensions))
        self.all = WhiteningAccumulator(dimensions)

    def update(self, labels: NDArray[np.int32], coordinates: NDArray[Any]) -> None:
        """Take in a block of rows; label -1 is no cluster."""
        values = np.asarray(coordinates, np.float64)
        self.all.update(values)
        inside = labels >= 0
        own, members = labels[inside], values[inside]
        clusters = len(self.counts)
        self.counts += np.bincount(own, minlength=clusters)
        for column, sums in zip(members.T, self.sums.T, strict=True):
            sums += np.bincount(own, weights=column, minlength=clusters)

    def merge(self, other: "CentroidAccumulator") -> None:
        """Take in all that another accumulator has seen."""
        assert self.sums.shape == other.sums.shape
        self.counts += other.counts
        self.sums += other.sums
        self.all.merge(other.all)

    def result(self) -> Centroids:
        """Whitening is affine: the whitened mean is the mean of the whitened members."""
        assert (self.counts > 0).all(), "every cluster must have members"
        means = self.sums / self.counts[:, None]
        deviation = np.sqrt(np.maximum(np.diag(self.all.scatter) / max(1, self.all.rows - 1), np.finfo(float).tiny))
        whitening = self.all.result()
        return Centroids(whitening.transform(means), (means - self.all.mean) / deviation, whitening)


def centroids(labels: NDArray[np.int32], blocks: Iterable[NDArray[Any]], clusters: int) -> Centroids:
    """The centroids of clusters 0 .. clusters - 1; `blocks` hold the coordinates of all rows, in order."""
    accumulator, start = None, 0
    for block in blocks:
        accumulator = accumulator or CentroidAccumulator(clusters, block.shape[1])
        accumulator.update(labels[start : start + len(block)], block)
        start += len(block)
    assert accumulator is not None
    assert start == len(labels), f"{start} rows of coordinates for {len(labels)} labels"
    return accumulator.result()
