"""Where work runs. One idea: a list of independent items, each of which writes its own shard.

An item names its shard, a top-level function and plain arguments, so that it can be sent to another process as it
stands. The function returns the arrays of the shard; writing and skipping belong to the engine. Models and other heavy
things are not in the arguments: the function asks for them by configuration, and the loaders keep them per process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scale.progress import Progress
from scale.store import shard_path, write_shard


@dataclass(frozen=True)
class Item:
    """One independent piece of work: ``function(**arguments)`` gives the arrays of ``shard``."""

    shard: str
    function: Callable[..., Mapping[str, np.ndarray]]
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        """Do every item whose shard is not yet in ``folder``."""


class LocalEngine:
    """Items one after another in this process."""

    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        done = [shard_path(folder, item.shard).exists() for item in items]
        with progress.task(label, total=len(items), done=sum(done)) as task:
            for item, finished in zip(items, done, strict=True):
                if finished:
                    continue
                write_shard(folder, item.shard, item.function(**item.arguments))
                task.advance()


@dataclass(frozen=True)
class Workspace:
    """What a stage is given: the folder that is its own, the published folders it reads, and where its items run."""

    folder: Path
    inputs: Mapping[str, Path]
    engine: Engine
    progress: Progress
