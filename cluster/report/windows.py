"""Stretches of context around predicted tokens, read from the memory-mapped token table."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Label of a position that is not part of a context or in no cluster.
NO_CLUSTER = -1


@dataclass(frozen=True)
class Window:
    """Tokens around one predicted token.

    `marked` is its index in `tokens`. `neighbours` lists index and cluster, alternately, of the other tokens of the
    window that are members of a cluster themselves.
    """

    tokens: list[int]
    marked: int
    neighbours: list[int]


def cut_windows(
    tokens: NDArray[np.int32],
    labels: NDArray[np.int32],
    rows: NDArray[np.int64],
    contexts: NDArray[np.int64],
    positions: NDArray[np.int64],
    before: int,
    after: int,
) -> list[Window]:
    """Cut `before` tokens, the predicted token and `after` tokens out of each row's context, clipped to its ends.

    tokens: (contexts, T). labels: (rows,), ordered by context and position, so that the row of a neighbour at distance
    j in the same context is the row plus j; position 0 has no row, since nothing predicts it.
    """
    length = tokens.shape[1]
    offsets = np.arange(-before, after + 1)
    where = positions[:, None] + offsets
    inside = (where >= 0) & (where < length)
    pieces = tokens[contexts[:, None], np.where(inside, where, 0)]
    predicted = inside & (where >= 1) & (offsets != 0)
    clusters = np.where(predicted, labels[np.where(predicted, rows[:, None] + offsets, 0)], NO_CLUSTER)
    return [_window(*row, before) for row in zip(pieces, clusters, inside, strict=True)]


def _window(pieces: NDArray[np.int32], clusters: NDArray[np.int32], inside: NDArray[np.bool_], before: int) -> Window:
    start = int(np.argmax(inside))
    kept = clusters[inside]
    members = np.flatnonzero(kept != NO_CLUSTER)
    return Window(
        tokens=pieces[inside].tolist(),
        marked=before - start,
        neighbours=np.stack([members, kept[members]], axis=1).ravel().tolist(),
    )
