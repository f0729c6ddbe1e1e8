"""What predictions are made from, part by part: which columns of the taps are which.

A *part* is one kind of input at one layer: the residual stream below a block ("activations"), the gradient of the
token's loss there or at the top ("gradients"), or the first-order responses to all components ("responses").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scale.taps.stage import Taps

#: The layer of what belongs to none.
NO_LAYER = -1


@dataclass(frozen=True)
class Part:
    """One part of the inputs.

    Args:
        input: "activations", "gradients" or "responses".
        layer: The block below which it is taken, the number of blocks for the top, `NO_LAYER` for responses.
        columns: Where it lies in a row of the taps.
    """

    input: str
    layer: int
    columns: slice


def parts_of(taps: Taps, width: int, depth: int) -> list[Part]:
    """The parts of a row of the taps, in the order in which they lie there (`scale.taps.stage`)."""
    kinds = [("activations", layer, width) for layer in taps.layers]
    if taps.gradients:
        kinds += [("gradients", layer, width) for layer in (*taps.layers, depth)]
    if taps.responses:
        kinds.append(("responses", NO_LAYER, len(taps.responses)))
    ends = np.cumsum([columns for _, _, columns in kinds])
    assert ends[-1] == taps.columns(width), (ends[-1], taps)
    return [
        Part(name, layer, slice(int(end) - columns, int(end)))
        for (name, layer, columns), end in zip(kinds, ends, strict=True)
    ]


def gather(shards: Sequence[np.ndarray], rows: np.ndarray, columns: slice) -> np.ndarray:
    """Some columns of some rows (ascending), float32, of arrays that lie end to end; nothing else is read."""
    return np.concatenate([part for part in _gathered(shards, rows, columns) if len(part)])


def _gathered(shards: Sequence[np.ndarray], rows: np.ndarray, columns: slice) -> Iterable[np.ndarray]:
    starts = np.cumsum([0, *(len(shard) for shard in shards)])
    bounds = np.searchsorted(rows, starts)
    for shard, start, first, last in zip(shards, starts[:-1], bounds[:-1], bounds[1:], strict=True):
        yield np.asarray(shard[rows[first:last] - start, columns], dtype=np.float32)
