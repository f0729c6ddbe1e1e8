"""Rows spread over shards: gathering, the split by document, and the order of an epoch. Numpy only."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scale.errors import UserError


class ShardedRows:
    """A list of (rows, width) arrays, memory-mapped or not, read as if it were one; nothing is concatenated."""

    def __init__(self, shards: Sequence[np.ndarray]) -> None:
        assert len(shards) > 0, "no shards"
        assert len({shard.shape[1] for shard in shards}) == 1, "shards differ in width"
        self.shards = list(shards)
        self.starts = np.cumsum([0] + [len(shard) for shard in shards])
        self.width = int(shards[0].shape[1])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Memory-mapped shards travel to another process as the place they lie at, not as their content."""
        return {**self.__dict__, "shards": [_Mapped.of(shard) for shard in self.shards]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        shards = [shard.open() if isinstance(shard, _Mapped) else shard for shard in state["shards"]]
        self.__dict__.update(state, shards=shards)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The given rows, in the given order, as float32."""
        gathered = np.empty((len(rows), self.width), dtype=np.float32)
        shard_of = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(shard_of):
            here = shard_of == shard
            gathered[here] = self.shards[shard][rows[here] - self.starts[shard]]
        return gathered


@dataclass(frozen=True)
class _Mapped:
    """Where a memory-mapped array lies on disk."""

    path: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, array: np.ndarray) -> _Mapped | np.ndarray:
        """The place of a whole mapped array; a part of one, and an array in memory, are themselves."""
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.flags.c_contiguous:
            return cls(str(array.filename), array.dtype, array.shape, array.offset)
        return array

    def open(self) -> np.ndarray:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def document_hash(documents: np.ndarray, seed: int) -> np.ndarray:
    """A uniform 64-bit hash of every document id: the splitmix64 finaliser over id and seed."""
    with np.errstate(over="ignore"):
        mixed = documents.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def validation_rows(documents: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows belong to validation documents: the `share` of documents with the smallest hash, at least one.

    The choice looks at document ids alone, so that no document is ever on both sides and neither the order nor the
    number of its tokens matters.
    """
    distinct = np.unique(documents)
    if len(distinct) < 2:
        raise UserError(
            f"aux.validation_share needs at least 2 documents to split, the training data has {len(distinct)}"
        )
    wanted = min(len(distinct) - 1, max(1, math.ceil(share * len(distinct))))
    ranked = distinct[np.argsort(document_hash(distinct, seed), kind="stable")]
    return np.isin(documents, ranked[:wanted])


def epoch_order(rows: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """The rows of one epoch in an order that reaches across shards and follows from (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(rows)
