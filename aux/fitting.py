"""The Lightning side of training: the loss, and what is kept from epoch to epoch."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.nn import functional

from aux.accuracy import PearsonAccumulator
from aux.config import AuxConfig
from aux.model import AuxModel

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

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        inputs, targets = batch
        hidden = self.model.hidden(inputs)
        wanted = (targets - self.model.target_mean) / self.model.target_scale
        error = functional.mse_loss(self.model.decode(hidden), wanted)
        self.log("train_error", error.detach(), on_step=False, on_epoch=True, batch_size=len(inputs))
        return error + self.config.l1 * hidden.abs().mean()

    def on_validation_epoch_start(self) -> None:
        self.score = PearsonAccumulator(self.model.shape.outputs)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        inputs, targets = batch
        self.score.update(self.model(inputs).float().cpu().numpy(), targets.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        agreement = self.score.result()
        self.log("validation_pearson", float(agreement.pearson.mean()))
        self.log("validation_r2", float(agreement.r2.mean()))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        rate, decay = self.config.learning_rate, self.config.weight_decay
        optimizer = torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._cosine)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _cosine(self, step: int) -> float:
        """Share of the peak learning rate after so many of all steps."""
        return 0.5 * (1.0 + math.cos(math.pi * min(step, self.total_steps) / self.total_steps))


class KeepBest(lightning.Callback):
    """Keeps the weights of the best epoch, stops when no epoch has been better for a while, and saves every epoch.

    The best weights are part of the checkpoint, so that one file, replaced whole, is all that a resumed run needs;
    Lightning's own stopping and checkpoint callbacks leave two files that a kill can catch between their writes, and
    forget on resume that training had already stopped.
    """

    def __init__(self, patience: int, folder: Path | None) -> None:
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
        """A run that was killed after its last epoch has nothing left to do."""
        if self.history and self.stopped:
            trainer.should_stop = True

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
        if self.folder is not None:
            unfinished = self.folder / f"{CHECKPOINT_FILE}.part"
            trainer.save_checkpoint(unfinished)
            os.replace(unfinished, self.folder / CHECKPOINT_FILE)
