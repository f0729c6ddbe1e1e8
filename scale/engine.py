"""Where work runs. One idea: a list of independent items, each of which writes its own shard.

An item names its shard, a top-level function and plain arguments, so that it can be sent to another process as it
stands. The function returns the arrays of the shard; writing and skipping belong to the engine. Models and other heavy
things are not in the arguments: the function asks for them by configuration, and the loaders keep them per process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Protocol, TypeVar

import numpy as np

from scale.placement import settler, visible_gpus
from scale.progress import Progress, Task
from scale.storage.snapshots import snapshots
from scale.store import shard_path, unfinished_shard, write_shard

if TYPE_CHECKING:
    from scale.answers import Answer
    from scale.storage.part import Part

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
#: What an item needs of a machine: a worker's share of its cores and graphics processors, all of its cores, or both
#: all of its cores and all of its graphics processors.
Share = Literal["worker", "cores", "machine"]


@dataclass(frozen=True)
class Item:
    """One independent piece of work: ``function(**arguments)`` gives the arrays of ``shard``.

    An item that ``keeps_files`` is also given ``folder``, the unfinished shard, which outlives a killed process: what
    it leaves there becomes part of the shard, and what it finds there is from its own earlier attempt. ``share`` says
    what it needs where workers hold parts of machines: one that has threads of its own takes all cores.

    What a function reads in the folder of the shards, files or folders beside them, ``reads`` names relative to it.
    Where the run lies on a store, the engine adds the ``part`` of it that the item belongs to (`scale.storage.part`).
    """

    shard: str
    function: Callable[..., Mapping[str, np.ndarray]]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    keeps_files: bool = False
    share: Share = "worker"
    reads: tuple[str, ...] = ()
    part: Part | None = None


class Engine(Protocol):
    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        """Do every item whose shard is not yet in ``folder``."""

    def ask(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        """The answer of a function, from where items run: for what depends on their device or loads a model."""

    def together(
        self,
        function: Callable[..., Answer],
        count: int,
        arguments: Mapping[str, Any],
        folder: Path,
        reads: tuple[str, ...] = (),
    ) -> Answer:
        """The answer of the first of ``count`` processes that train together; ``folder`` is theirs meanwhile.

        What they read beside it, ``reads`` names.
        """


def is_done(item: Item, folder: Path) -> bool:
    """Whether the item's shard is here, or on the store if the run lies on one."""
    place = shard_path(folder, item.shard)
    return place.exists() or (item.part is not None and item.part.holds(place))


class LocalEngine:
    """Items in this process: one after another with all of torch's threads, or ``workers`` at a time with one each;
    those that have threads of their own always one after another.

    A small model on a processor gains most from several workers: its matrices are too small to be shared out. Each
    worker holds a copy of the model, on the next GPU in turn where there are several.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        left = [item for item in items if not is_done(item, folder)]
        with progress.task(label, total=len(items), done=len(items) - len(left)) as task:
            together = [item for item in left if self.workers > 1 and item.share == "worker"]
            for item in left if not together else [item for item in left if item.share != "worker"]:
                do(item, folder)
                task.advance()
            if together:
                self.run_side_by_side(together, folder, task)

    def ask(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        return function(*arguments, **named)

    def together(
        self,
        function: Callable[..., Answer],
        count: int,
        arguments: Mapping[str, Any],
        folder: Path,
        reads: tuple[str, ...] = (),
    ) -> Answer:
        """Called once: what trains on several devices of one machine starts its processes itself."""
        return function(**arguments)

    def run_side_by_side(self, items: Sequence[Item], folder: Path, task: Task) -> None:
        with ThreadPoolExecutor(self.workers, initializer=settler(visible_gpus())) as pool:
            futures = [pool.submit(do, item, folder) for item in items]
            try:
                for future in as_completed(futures):
                    future.result()
                    task.advance()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def do(item: Item, folder: Path) -> None:
    """The item's shard, in ``folder``; where the run lies on a store, also there, and what it reads is from there."""
    if item.part is None:
        make_shard(item, folder)
        return
    place = shard_path(folder, item.shard)
    item.part.bring_inputs(item.arguments.values(), [folder / name for name in item.reads])
    if not place.exists():
        make_shard(item, folder)
    item.part.keep(place)


def make_shard(item: Item, folder: Path) -> None:
    if item.keeps_files:
        place = unfinished_shard(folder, item.shard)
        with snapshots(item.part, shard_path(folder, item.shard), place):
            arrays = item.function(folder=place, **item.arguments)
        write_shard(folder, item.shard, arrays, begun=place)
    else:
        write_shard(folder, item.shard, item.function(**item.arguments))


class PerWorker(Generic[Arguments, Result]):
    """Keeps the last result of a function in every worker: items in different workers must not share a model."""

    def __init__(self, function: Callable[Arguments, Result]) -> None:
        self.function = function
        self.kept = threading.local()
        update_wrapper(self, function)

    def __call__(self, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        key = (arguments, tuple(sorted(named.items())))
        if getattr(self.kept, "key", None) != key:
            self.forget()  # let go of the old before the new is made
            self.kept.value, self.kept.key = self.function(*arguments, **named), key
        value: Result = self.kept.value
        return value

    def forget(self) -> None:
        self.kept.key, self.kept.value = None, None


def per_worker(function: Callable[Arguments, Result]) -> PerWorker[Arguments, Result]:
    return PerWorker(function)


@dataclass(frozen=True)
class Workspace:
    """What a stage is given: the folder that is its own, the published folders it reads, and where its items run."""

    folder: Path
    inputs: Mapping[str, Path]
    engine: Engine
    progress: Progress
