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
    first, last = np.argmax(inside, axis=1), inside.shape[1] - np.argmax(inside[:, ::-1], axis=1)
    at, column = np.nonzero(clusters != NO_CLUSTER)
    pairs = np.stack([column - first[at], clusters[at, column]], axis=1).ravel().tolist()
    ends = (2 * np.searchsorted(at, np.arange(len(rows) + 1))).tolist()
    bounds = zip(pieces.tolist(), first.tolist(), last.tolist(), ends, ends[1:], strict=False)
    return [Window(row[low:high], before - low, pairs[begin:end]) for row, low, high, begin, end in bounds]
