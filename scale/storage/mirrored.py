"""An engine whose items may run on machines that share nothing but a store: what they need goes out, what they made
comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from scale.answers import Answer
from scale.engine import Engine, Item, LocalEngine
from scale.errors import UserError
from scale.progress import Progress
from scale.storage.objects import side_by_side
from scale.storage.part import Part
from scale.store import shard_path

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class MirroredEngine:
    """Items of one stage, run by another engine here or elsewhere.

    Args:
        inner: Where they run.
        part: The stage that is being made.
    """

    def __init__(self, inner: Engine, part: Part) -> None:
        self.inner, self.part = inner, part
        self.kept = set(part.finished())

    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        """Afterwards every shard is on the store and here."""
        shards = [shard_path(folder, item.shard) for item in items]
        needed = [folder / name for item in items for name in item.reads]
        self.keep([path for path in dict.fromkeys([*needed, *shards]) if path.exists()])
        self.inner.run([replace(item, part=self.part) for item in items], folder, label, progress)
        self.kept |= set(shards)
        absent = [path for path in shards if not path.exists()]
        for path, found in zip(absent, side_by_side(self.part.fetch, absent), strict=True):
            if not found:
                raise UserError(f"folder: {self.part.mirror.url}: {path.name} was damaged; give the same command again")

    def ask(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        answer: Result = self.inner.ask(answered, self.part, function, arguments, named)
        return answer

    def together(
        self,
        function: Callable[..., Answer],
        count: int,
        arguments: Mapping[str, Any],
        folder: Path,
        reads: tuple[str, ...] = (),
    ) -> Answer:
        if count > 1 and not isinstance(self.inner, LocalEngine):
            raise UserError(
                f"aux.devices: {count} processes on several machines train in a folder that all of them see, and "
                f"{self.part.mirror.url} is none; set aux.devices to 1"
            )
        beside = [folder.parent / name for name in reads]
        self.keep(beside)
        asked = {"part": self.part, "function": function, "named": dict(arguments), "reads": beside}
        return self.inner.together(answered_beside, count, asked, folder)

    def keep(self, paths: Sequence[Path]) -> None:
        """Send what is here and not yet on the store."""
        for path in paths:
            if path not in self.kept:
                self.part.keep(path)
                self.kept.add(path)


def answered(part: Part, function: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """Where items run: the answer of a function, once the stages that it is given are there."""
    part.bring_inputs([*arguments, *named.values()], [])
    return function(*arguments, **named)


def answered_beside(part: Part, function: Callable[..., Any], named: Mapping[str, Any], reads: Sequence[Path]) -> Any:
    """The same of a function that also reads places of the stage that is being made."""
    part.bring_inputs(named.values(), reads)
    return function(**named)
