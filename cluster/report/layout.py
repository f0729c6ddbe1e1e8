"""A map of the clusters: points in the plane, their neighbours, and groups at two levels above them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.neighbours import knn

# Neighbours that pull a point on the map, and nearest clusters that its page names.
PULL = 15
NEAREST = 10
# Fewer points than this are laid out by their principal components alone.
FEWEST = 8
# Share of the steps with attraction exaggerated, which finds the regions; the others spread their clusters.
GATHERING = 0.3


@dataclass(frozen=True)
class Layout:
    """`xy` lies in the unit square; `neighbourhood` and `region` number the groups, regions made of neighbourhoods."""

    xy: NDArray[np.float64]
    neighbourhood: NDArray[np.int64]
    region: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distances: NDArray[np.float64]


def lay_out(points: NDArray[np.float64], seed: int, steps: int) -> Layout:
    """Place the rows of `points` so that neighbours stay neighbours; the more `steps`, the better they do."""
    count = len(points)
    if count == 0:
        none, empty = np.zeros(0, np.int64), np.zeros((0, 0), np.int64)
        return Layout(np.zeros((0, 2)), none, none, empty, empty.astype(np.float64))
    asked = min(max(PULL, NEAREST), count - 1)
    if asked:
        found = knn(points.astype(np.float32), asked)
        distances, nearest = np.asarray(found.distances, np.float64), np.asarray(found.neighbours, np.int64)
    else:
        distances, nearest = np.zeros((1, 0)), np.zeros((1, 0), np.int64)
    xy = _unit_square(_embed(points, nearest, distances, seed, steps))
    neighbourhood, region = _levels(xy, seed)
    return Layout(xy, neighbourhood, region, nearest[:, :NEAREST], distances[:, :NEAREST])


def _principal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first two principal components, each pointing the way of its largest entry."""
    centred = points - points.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(points), 2))
    kept = min(2, len(values))
    plane[:, :kept] = left[:, :kept] * values[:kept]
    return plane * np.where(plane[np.abs(plane).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)


def _embed(
    points: NDArray[np.float64], nearest: NDArray[np.int64], distances: NDArray[np.float64], seed: int, steps: int
) -> NDArray[np.float64]:
    """t-SNE on the nearest-neighbour graph, started from the principal components so that regions keep their places."""
    start = _principal(points)
    if len(points) < FEWEST:
        return start
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import Uniform
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    pull = min(PULL, nearest.shape[1])
    index = PrecomputedNeighbors(nearest[:, :pull], distances[:, :pull])
    affinities = Uniform(knn_index=index, k_neighbors=pull, n_jobs=1)
    scaled = start / max(float(start[:, 0].std()), np.finfo(float).tiny) * 1e-4
    embedding = TSNEEmbedding(
        scaled, affinities, negative_gradient_method="fft" if len(points) > 1000 else "bh", n_jobs=1, random_state=seed
    )
    gathering = round(GATHERING * steps)
    embedding = embedding.optimize(gathering, exaggeration=12, momentum=0.5)
    return np.asarray(embedding.optimize(steps - gathering, momentum=0.8), np.float64)


def _unit_square(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Into [0, 1] x [0, 1], one scale for both axes, centred."""
    low, high = plane.min(axis=0), plane.max(axis=0)
    return (plane - (low + high) / 2) / max(float((high - low).max()), np.finfo(float).tiny) + 0.5


def _levels(xy: NDArray[np.float64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Neighbourhoods are about √(2n) groups of points; regions join them by Ward's rule, a few dozen at most."""
    from sklearn.cluster import AgglomerativeClustering, KMeans

    different = len(np.unique(xy, axis=0))
    count = max(1, min(different, round(np.sqrt(2 * len(xy)))))
    means = KMeans(count, n_init=1, random_state=seed, max_iter=50).fit(xy)
    if count < 3:
        return means.labels_.astype(np.int64), np.zeros(len(xy), np.int64)
    joined = AgglomerativeClustering(max(2, round(count**0.6)), linkage="ward").fit(means.cluster_centers_)
    return means.labels_.astype(np.int64), joined.labels_[means.labels_].astype(np.int64)
