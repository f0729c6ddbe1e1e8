"""Where the items of a run are done: in this process, or on the machines of a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from balmer.config import RunConfig
from scale.engine import Engine, LocalEngine
from scale.errors import UserError


def available_cores() -> int:
    """Processor cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_engine(config: RunConfig) -> None:
    """Before any work: what the engine needs is installed."""
    if config.engine == "ray" and find_spec("ray") is None:
        raise UserError("engine: ray is not installed; pip install '.[cluster]', or set engine: local")


@contextmanager
def engine_of(config: RunConfig) -> Iterator[Engine]:
    """The engine of one run; afterwards nothing of it is left running."""
    if config.engine == "local":
        yield LocalEngine(config.workers or available_cores())
        return
    from scale.ray_engine import ray_engine

    with ray_engine(config.ray, Path(config.folder)) as engine:
        yield engine
