"""An engine whose items may run on machines that share nothing but a store: what they need goes out, what they made
comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scale.engine import Engine, Item
from scale.objects import side_by_side
from scale.part import Part
from scale.progress import Progress
from scale.store import shard_path


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
        self.kept |= {self.part.relative(path) for path in shards}
        absent = [path for path in shards if not path.exists()]
        for path, found in zip(absent, side_by_side(self.fetch, absent), strict=True):
            if not found:
                raise RuntimeError(f"{path}: an item is said to be done, and its shard is nowhere")

    def fetch(self, path: Path) -> bool:
        return self.part.fetch(self.part.relative(path))

    def keep(self, paths: Sequence[Path]) -> None:
        """Send what is here and not yet on the store."""
        for place in map(self.part.relative, paths):
            if place not in self.kept:
                self.part.keep(place)
                self.kept.add(place)
