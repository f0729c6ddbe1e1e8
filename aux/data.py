"""Batches for Lightning: gathered from sharded arrays by row number, so that only a batch is ever in memory."""

from __future__ import annotations

from collections.abc import Iterator

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from aux.rows import ShardedRows, epoch_order


class PairedRows(Dataset):
    """Inputs and targets, indexed by an array of row numbers at a time."""

    def __init__(self, inputs: ShardedRows, targets: ShardedRows) -> None:
        assert len(inputs) == len(targets), (len(inputs), len(targets))
        self.inputs = inputs
        self.targets = targets

    def __getitem__(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.inputs.take(rows)), torch.from_numpy(self.targets.take(rows))


class BatchOrder(Sampler):
    """Row numbers of every batch; reshuffled by epoch when a seed is given, in stored order otherwise."""

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int | None = None) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch, also of the first one after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        rows = self.rows if self.seed is None else epoch_order(self.rows, seed=self.seed, epoch=self.epoch)
        for start in range(0, len(rows), self.batch_size):
            yield rows[start : start + self.batch_size]


class AuxData(lightning.LightningDataModule):
    """Training and validation batches of one set of shards."""

    def __init__(self, pairs: PairedRows, validation: np.ndarray, *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.pairs = pairs
        self.training_order = BatchOrder(np.flatnonzero(~validation), batch_size, seed)
        self.validation_order = BatchOrder(np.flatnonzero(validation), batch_size)

    def _loader(self, order: BatchOrder) -> DataLoader:
        # A generator of its own: the loader draws a number per epoch, which must not touch the global random state.
        return DataLoader(self.pairs, sampler=order, batch_size=None, generator=torch.Generator())

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.training_order)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.validation_order)
