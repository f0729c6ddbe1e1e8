"""How Lightning's trainer is set up, and kept from changing the process around it."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from aux.checks import started_together
from aux.config import AuxConfig

_LOGGERS = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]


class QuietDDP(DDPStrategy):
    """One process per device, each as quiet as the one that starts them; they do nothing else."""

    def setup_environment(self) -> None:
        quieten()
        super().setup_environment()


def quieten() -> None:
    """No tips, hints and deprecations from Lightning."""
    for logger in _LOGGERS:
        logger.setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.")


def make_trainer(config: AuxConfig, keeper: lightning.Callback, logger: Any, progress: bool) -> lightning.Trainer:
    """A trainer on this machine's devices, or on this process's share of those of a cluster.

    Several devices are several processes started for the training alone (`ddp_spawn`): the strategies that start the
    whole command again, or expect it to have been started once per device, would run every other stage as often. Where
    processes have been started already and know of one another, that was Ray Train.
    """
    spread = started_together()
    trainer = lightning.Trainer(
        **(ray_devices() if spread else own_devices(config)),
        accelerator=config.accelerator,
        precision=config.precision,
        max_epochs=config.epochs,
        deterministic=True,
        use_distributed_sampler=False,
        callbacks=[keeper],
        logger=logger,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        num_sanity_val_steps=0,
    )
    if spread:
        from ray.train.lightning import prepare_trainer

        prepare_trainer(trainer)
    return trainer


def own_devices(config: AuxConfig) -> dict[str, Any]:
    return {
        "devices": config.devices,
        "strategy": "auto" if config.devices == 1 else QuietDDP(start_method="spawn"),
        # Whatever the scheduler: under `srun` Lightning would otherwise count the job's tasks.
        "plugins": [LightningEnvironment()],
    }


def ray_devices() -> dict[str, Any]:
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    return {"devices": "auto", "strategy": RayDDPStrategy(), "plugins": [RayLightningEnvironment()]}


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Lightning without tips and hints, and without what it leaves behind in the process.

    It switches deterministic algorithms on, and answers Ctrl-C by ignoring any further one and exiting.
    """
    levels = [logger.level for logger in _LOGGERS]
    deterministic = torch.are_deterministic_algorithms_enabled()
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            quieten()
            yield
    except SystemExit as stopped:
        raise KeyboardInterrupt from stopped
    finally:
        if signal.getsignal(signal.SIGINT) is not interrupt:
            signal.signal(signal.SIGINT, interrupt)
        torch.use_deterministic_algorithms(deterministic)
        for logger, level in zip(_LOGGERS, levels, strict=True):
            logger.setLevel(level)
