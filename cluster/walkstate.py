"""The arrays that a walk reads and writes, as its kernels take them."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

#: Entries of a walk's counters. EDGES counts every edge read or written.
REACHED, COPIED, OPENED, POSITION, WAITING, LIFTED, ROUND, WORK, PATIENT, EDGES, PUSHES, SOLUTIONS = range(12)
COUNTERS = 12
#: What a kernel leaves behind: nothing to push, no room to go on, work that a solution would shorten.
DONE, FULL, LONG = 0, 1, 2

Vector = npt.NDArray[np.float64]
Vertices = npt.NDArray[np.int32]


class Edges(NamedTuple):
    """A graph as the kernels read it: edges of u are `first[u]` to `last[u]` of `neighbours` and `weights`."""

    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    neighbours: Vertices
    weights: npt.NDArray[Any]
    degree: Vector


class Reached(NamedTuple):
    """What a walk holds of each vertex it has reached, by the walk's own numbers.

    `vertex` is its number in the graph; `opened` lists those that were pushed, whose edges are copied; `queues` are the
    rounds of pushes, now and next; the others are the vectors of conjugate gradients.
    """

    vertex: Vertices
    p: Vector
    r: Vector
    opened: Vertices
    queues: npt.NDArray[np.int32]
    step: Vector
    image: Vector
    missing: Vector
    total: Vector
