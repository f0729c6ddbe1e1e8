"""The Lightning side of the data: loaders over one set of shards."""

from __future__ import annotations

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from aux.batches import BatchOrder, PairedRows


class AuxData(lightning.LightningDataModule):
    """Training and validation batches of one set of shards."""

    def __init__(self, pairs: PairedRows, validation: np.ndarray, *, batch_size: int, seed: int, workers: int) -> None:
        super().__init__()
        self.pairs = pairs
        self.workers = workers
        self.training_order = BatchOrder(np.flatnonzero(~validation), batch_size, seed)
        self.validation_order = BatchOrder(np.flatnonzero(validation), batch_size)

    def _loader(self, order: BatchOrder) -> DataLoader:
        assert self.trainer is not None, "loaders are made by a trainer, which knows how many processes train"
        order.share(self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(
            self.pairs,
            sampler=order,
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            # A fork of a process with threads, of torch or of CUDA, may hang.
            multiprocessing_context="spawn" if self.workers else None,
            # Of its own: the loader draws a number per epoch, which must not touch the global random state.
            generator=torch.Generator(),
        )

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.training_order)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.validation_order)
