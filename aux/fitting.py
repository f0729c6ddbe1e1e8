"""The Lightning side of training: the loss, and what is kept from epoch to epoch."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from aux.accuracy import PearsonAccumulator
from aux.config import AuxConfig
from aux.logs import LOG_FILE, write_log
from aux.model import AuxModel
from aux.threads import set_threads

Batch = tuple[torch.Tensor, torch.Tensor, int]
CHECKPOINT_FILE = "last.ckpt"


class AuxLightning(lightning.LightningModule):
    """Squared error on coordinates of unit variance plus an l1 penalty on the hidden activations.

    Every coordinate weighs the same, however little variance it explains, because the score is the mean over
    coordinates of the Pearson correlation.
    """

    def __init__(self, model: AuxModel, config: AuxConfig, total_steps: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.total_steps = total_steps
        self.score = PearsonAccumulator(model.shape.outputs)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return self.model(activations)

    def on_fit_start(self) -> None:
        """Processes that Lightning starts are given threads of its own reckoning."""
        set_threads(self.config.threads)

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        inputs, targets, whole = batch
        normalised = self.model.normalised(inputs)
        hidden = self.model.encode(normalised)
        wanted = (targets - self.model.target_mean) / self.model.target_scale
        error = (self.model.decode(hidden, normalised).float() - wanted).square().sum() / wanted.shape[1]
        size = hidden.float().abs().sum() / hidden.shape[1]
        world = self.trainer.world_size
        # Lightning averages the weights of this mean over processes as integers: so many times as much loses nothing.
        weight = len(inputs) * world
        mine = error.detach() / max(len(inputs), 1)
        self.log("train_error", mine, on_step=False, on_epoch=True, batch_size=weight, sync_dist=True)
        # Processes average their gradients; a mean over the whole batch must not depend on how it was dealt out.
        return (error + self.config.l1 * size) * (world / whole)

    def on_validation_epoch_start(self) -> None:
        self.score = PearsonAccumulator(self.model.shape.outputs)

    def validation_step(self, batch: Batch, _: int) -> None:
        inputs, targets, _whole = batch
        self.score.update(self.model(inputs).float().cpu().numpy(), targets.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        agreement = self._score_of_all_processes().result()
        for name, values in (("validation_pearson", agreement.pearson), ("validation_r2", agreement.r2)):
            self.log(name, float(values.mean()), sync_dist=False)

    def _score_of_all_processes(self) -> PearsonAccumulator:
        """Merged in the order of the processes; a mean of their correlations would not be the correlation."""
        if self.trainer.world_size == 1:
            return self.score
        states = self.all_gather(torch.from_numpy(packed(self.score)))
        assert isinstance(states, torch.Tensor)
        merged = PearsonAccumulator(self.model.shape.outputs)
        for state in states.cpu().numpy():
            merged.merge(unpacked(state))
        return merged

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        rate, decay = self.config.learning_rate, self.config.weight_decay
        optimizer = torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._cosine)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _cosine(self, step: int) -> float:
        """Share of the peak learning rate after so many of all steps."""
        return 0.5 * (1.0 + math.cos(math.pi * min(step, self.total_steps) / self.total_steps))


def packed(score: PearsonAccumulator) -> np.ndarray:
    """Everything the accumulator knows, as one float64 vector."""
    return np.concatenate([[score.count], score.means.ravel(), score.products.ravel()]).astype(np.float64)


def unpacked(state: np.ndarray) -> PearsonAccumulator:
    """The accumulator that `packed` was called on."""
    columns = (len(state) - 1) // 5
    score = PearsonAccumulator(columns)
    score.count = int(state[0])
    score.means = state[1 : 1 + 2 * columns].reshape(2, columns).copy()
    score.products = state[1 + 2 * columns :].reshape(3, columns).copy()
    return score


class KeepBest(lightning.Callback):
    """Keeps the weights of the best epoch, stops when no epoch has been better for a while, and saves every epoch.

    The best weights are part of the checkpoint, so that one file, replaced whole, is all that a resumed run needs;
    Lightning's own stopping and checkpoint callbacks leave two files that a kill can catch between their writes, and
    forget on resume that training had already stopped.
    """

    def __init__(self, patience: int, folder: Path) -> None:
        self.patience = patience
        self.folder = folder
        self.history: list[dict[str, float]] = []
        self.best_epoch = -1
        self.weights: dict[str, torch.Tensor] = {}

    @property
    def stopped(self) -> bool:
        """Whether patience has run out."""
        return len(self.history) - 1 - self.best_epoch >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]
        self.best_epoch = state_dict["best_epoch"]
        self.weights = state_dict["weights"]

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A run that was killed after its last epoch has nothing left to do but its log."""
        if self.history:
            trainer.should_stop = self.stopped
            self._write_log(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note the epoch (validation has run by now), keep its weights if it is the best, save."""
        assert isinstance(pl_module, AuxLightning)
        names = ("train_error", "validation_pearson", "validation_r2")
        self.history.append({name: float(trainer.callback_metrics[name]) for name in names})
        scores = [epoch["validation_pearson"] for epoch in self.history]
        if self.best_epoch < 0 or scores[-1] > scores[self.best_epoch]:
            self.best_epoch = len(scores) - 1
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.model.state_dict().items()}
        trainer.should_stop = self.stopped
        unfinished = self.folder / f"{CHECKPOINT_FILE}.part"
        trainer.save_checkpoint(unfinished)  # returns when every process has done its part
        if trainer.is_global_zero:
            os.replace(unfinished, self.folder / CHECKPOINT_FILE)
        self._write_log(trainer)

    def _write_log(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            write_log(self.folder / LOG_FILE, self.history)

    def restore(self) -> None:
        """Read back what was kept, which other processes may have written."""
        checkpoint = torch.load(self.folder / CHECKPOINT_FILE, map_location="cpu", weights_only=True)
        self.load_state_dict(checkpoint["callbacks"][self.state_key])
