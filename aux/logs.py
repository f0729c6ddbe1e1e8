"""What is kept of every epoch: a CSV file that follows from the training alone, and by option a live logger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aux.config import AuxConfig
from scale.store import write_bytes

LOG_FILE = "log.csv"


def write_log(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """One line per epoch. It is written whole every time, so that a resumed training leaves the same bytes."""
    lines = [",".join(["epoch", *history[0]])]
    lines += [
        ",".join([str(epoch), *(f"{value:.9g}" for value in kept.values())]) for epoch, kept in enumerate(history)
    ]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


@contextlib.contextmanager
def live_logger(config: AuxConfig, name: str) -> Iterator[Any]:
    """Lightning's own logger of that kind, or False: the CSV file needs none.

    It writes into `aux.log_folder`, outside the run: its files hold times and host names. Every training is a run of
    its own there, also one that goes on from another.
    """
    from lightning.pytorch import loggers

    match config.logger:
        case "csv":
            yield False
        case "tensorboard":
            yield loggers.TensorBoardLogger(config.log_folder, name=name)
        case "wandb":
            import wandb

            Path(config.log_folder).mkdir(parents=True, exist_ok=True)
            try:
                yield loggers.WandbLogger(project="balmer", name=name, save_dir=config.log_folder)
            finally:
                wandb.finish()  # or the next training would be added to this one
