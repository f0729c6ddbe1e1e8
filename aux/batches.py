"""Batches gathered from sharded arrays by row number, so that only a batch is ever in memory.

Which rows make a batch is decided in one place, in advance: neither the number of loading processes nor that of
training processes changes it. No Lightning here, so that a loading process starts quickly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from aux.rows import ShardedRows, epoch_order


class Part(NamedTuple):
    """One training process's rows of a batch (there may be none), and how many rows the whole batch has."""

    rows: np.ndarray
    whole: int


class PairedRows(Dataset):
    """Inputs and targets, indexed by the part of a batch at a time."""

    def __init__(self, inputs: ShardedRows, targets: ShardedRows) -> None:
        assert len(inputs) == len(targets), (len(inputs), len(targets))
        self.inputs = inputs
        self.targets = targets

    def __getitem__(self, part: Part) -> tuple[torch.Tensor, torch.Tensor, int]:
        inputs, targets = (torch.from_numpy(side.take(part.rows)) for side in (self.inputs, self.targets))
        return inputs, targets, part.whole


class BatchOrder(Sampler):
    """The rows of every batch; reshuffled by epoch when a seed is given, in stored order otherwise."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int | None = None) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.rank, self.world = 0, 1

    def share(self, rank: int, world: int) -> None:
        """From now on, of every batch give the part of one of ``world`` processes."""
        self.rank, self.world = rank, world

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch, also of the first one after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Part]:
        rows = self.rows if self.seed is None else epoch_order(self.rows, seed=self.seed, epoch=self.epoch)
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            yield Part(batch[self.rank :: self.world], len(batch))
