"""Tokens that are alike before anything is known of their susceptibilities: the same target in a similar context.

Exchangeable within a cell, tokens of a cell may stand for one another in a random set. Cells partition the tokens, so
that a test by random sets matched on them is exact for whatever is unrelated to the susceptibility given the cell.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

#: Width of the random projection in which activations are compared: distances keep to about a sixth.
SKETCH = 64


def sketch(blocks: Iterable[np.ndarray], layers: int, seed: int) -> np.ndarray:
    """A random projection (N, `SKETCH`) of activations (N, layers x width) that arrive in blocks.

    Every layer has the same total variance in it: one with long vectors decides no more than another.
    """
    projected = [_by_layer(block, layers, seed) for block in blocks]
    joined = np.concatenate(projected)  # (N, layers, SKETCH)
    joined -= joined.mean(axis=0)
    scale = np.sqrt(np.square(joined).sum(axis=2).mean(axis=0))
    joined /= np.where(scale > 0, scale, 1)[:, None]
    return joined.sum(axis=1)


def _by_layer(block: np.ndarray, layers: int, seed: int) -> np.ndarray:
    rows, columns = block.shape
    width = columns // layers
    normal = np.random.default_rng(seed).standard_normal((layers, width, SKETCH), dtype=np.float32)
    found: np.ndarray = np.einsum("nlw,lws->nls", block.reshape(rows, layers, width), normal, optimize=True)
    return found


def cells(tokens: np.ndarray, described: np.ndarray, largest: int) -> np.ndarray:
    """A cell for every token (N): the same target token, and near in `described` (N, D).

    The occurrences of a token are halved across their widest direction, at the median, until no part holds more than
    `largest`.
    """
    found = np.empty(len(tokens), dtype=np.int64)
    order = np.argsort(tokens, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(tokens[order])) + 1)
    number = 0
    while groups:
        rows = groups.pop()
        if len(rows) > largest:
            groups += _halves(rows, described[rows])
        else:
            found[rows] = number
            number += 1
    return found


def _halves(rows: np.ndarray, described: np.ndarray) -> list[np.ndarray]:
    centred = described - described.mean(axis=0)
    widest = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    order = np.argsort(centred @ widest, kind="stable")
    middle = len(rows) // 2
    return [rows[np.sort(order[:middle])], rows[np.sort(order[middle:])]]
