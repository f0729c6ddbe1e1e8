"""What a training finds on this machine, and what it lacks, before any work."""

from __future__ import annotations

from importlib.util import find_spec

from aux.config import AuxConfig
from scale.errors import UserError

#: Any one of these libraries will do.
LIBRARIES = {"csv": (), "tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}


def check_machine(config: AuxConfig) -> None:
    """A `UserError` if the logger's library or a device is missing."""
    needed = LIBRARIES[config.logger]
    if needed and not any(map(find_spec, needed)):
        raise UserError(f"aux.logger: {config.logger} is not installed; pip install {config.logger}, or use csv")
    gpus = count_gpus()
    if (config.accelerator == "gpu" or (config.accelerator == "auto" and gpus)) and gpus < config.devices:
        raise UserError(
            f"aux.devices is {config.devices}, GPUs here: {gpus}; ask for no more, or set aux.accelerator: cpu"
        )


def count_gpus() -> int:
    import torch

    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def started_together() -> bool:
    """Whether this is one of several processes that train together, each with a device of its own."""
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()
