"""Where the items of a run are done: in this process, or on the machines of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from balmer.config import RunConfig
from scale.engine import Engine, LocalEngine
from scale.errors import UserError
from scale.placement import default_workers


def check_engine(config: RunConfig) -> None:
    """Before any work: what the engine needs is installed."""
    if config.engine == "ray" and find_spec("ray") is None:
        raise UserError("engine: ray is not installed; pip install '.[cluster]', or set engine: local")


@contextmanager
def engine_of(config: RunConfig, root: Path) -> Iterator[Engine]:
    """The engine of the run in the folder ``root``; afterwards nothing of it is left running."""
    if config.engine == "local":
        yield LocalEngine(config.workers or default_workers(config.model.device))
        return
    from scale.ray.engine import ray_engine

    with ray_engine(config.ray, root) as engine:
        yield engine
