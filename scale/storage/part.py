"""A stage that is being made, by any number of machines, of which the store holds what is finished."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from scale.errors import UserError
from scale.storage.mirror import PART, ChangedError, Mirror, Pointer, described, encoded, file_key
from scale.storage.objects import side_by_side

BEGUN = "begun"
#: How long a list of what the store holds is taken for what it holds now.
LISTED_SECONDS = 2.0
#: Ends the name of what was sent of an unfinished shard.
UNFINISHED = ".unfinished"


def part_of(mirror: Mirror, stage: str, made_from: Mapping[str, Any], replaced: Pointer | None) -> Part:
    """What is to become a stage: the same one as before if it is made from the same and replaces the same."""
    generation = replaced.generation if replaced else 0
    name = hashlib.sha256(json.dumps(made_from, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
    return Part(mirror, stage, f"{generation}-{name}")


@dataclass(frozen=True)
class Part:
    """A stage that is being made, on any number of machines: what is finished of it is on the store as well.

    Args:
        mirror: The run.
        stage: The stage.
        name: Tells apart what it is made from.
    """

    mirror: Mirror
    stage: str
    name: str

    @property
    def folder(self) -> Path:
        return self.mirror.root / f"{self.stage}{PART}" / self.name

    @property
    def prefix(self) -> str:
        return f"{self.stage}{PART}/{self.name}/"

    def begin(self, made_from: Mapping[str, Any]) -> None:
        """Forget parts that were made from other things, here and there; fetch what is finished of this one."""
        remove_others(self.folder)
        objects = self.mirror.objects
        found = objects.list(f"{self.stage}{PART}/")
        objects.delete(key for key in found if not key.startswith(self.prefix))
        objects.put(f"{self.prefix}{BEGUN}.json", encoded(dict(made_from)))
        side_by_side(self.fetch, [path for path in self.finished(found) if not path.exists()])

    def finished(self, found: Iterable[str] | None = None) -> list[Path]:
        """Finished shards and files, as paths on this machine whether they are here or not."""
        keys = self.mirror.objects.list(self.prefix) if found is None else found
        names = sorted(finished_names(keys, self.prefix))
        return [self.folder / name for name in names if name != BEGUN]

    def holds(self, path: Path) -> bool:
        """Whether the store has this shard, as it was a moment ago."""
        return path.name in listed(self, path.parent, int(time.monotonic() / LISTED_SECONDS))

    def marker(self, path: Path) -> str:
        return f"{self.prefix}{self.relative(path)}.json"

    def keep(self, path: Path) -> None:
        """Send a finished shard or file, and name it there when all of it has arrived."""
        paths = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        files = dict(zip(map(self.relative, paths), side_by_side(described, paths), strict=True))

        def send(name: str) -> None:
            self.mirror.objects.put(file_key(self.stage, name, files[name]), self.folder / name)

        side_by_side(send, list(files))
        self.mirror.objects.put(self.marker(path), encoded({"files": files}))

    def keep_unfinished(self, path: Path, folder: Path) -> None:
        """Send the files that lie in ``folder`` of what is to become ``path``, in place of those sent before."""
        paths, place = sorted(p for p in folder.rglob("*") if p.is_file()), self.relative(path) + UNFINISHED
        names = [f"{place}/{p.relative_to(folder).as_posix()}" for p in paths]
        files = dict(zip(names, side_by_side(described, paths), strict=True))
        objects, marker = self.mirror.objects, f"{self.prefix}{place}"
        before = objects.get(marker)
        for name, source in zip(names, paths, strict=True):
            objects.put(file_key(self.stage, name, files[name]), source)
        objects.put(marker, encoded({"files": files}))
        old = json.loads(before.content)["files"] if before else {}
        gone = {file_key(self.stage, *entry) for entry in old.items()}
        objects.delete(gone - {file_key(self.stage, *entry) for entry in files.items()})

    def fetch_unfinished(self, path: Path, folder: Path) -> bool:
        """Put what was sent of an unfinished ``path`` into an empty ``folder``, all at once."""
        place = self.relative(path) + UNFINISHED
        return self.brought(f"{self.prefix}{place}", place, folder)

    def fetch(self, path: Path) -> bool:
        """Bring a finished shard or file to this machine; whether there is one. A damaged one is to be made again."""
        return self.brought(self.marker(path), self.relative(path), path)

    def brought(self, marker: str, place: str, path: Path) -> bool:
        """Fetch the files that a marker names, of which those at ``place`` become ``path``."""
        found = self.mirror.objects.get(marker)
        if found is None:
            return False
        apart = self.mirror.incoming / uuid.uuid4().hex
        try:
            self.mirror.download(self.stage, json.loads(found.content)["files"], apart)
            path.parent.mkdir(parents=True, exist_ok=True)
            settle(apart / place, path)
        except ChangedError:
            self.mirror.objects.delete([marker])
            return False
        finally:
            shutil.rmtree(apart, ignore_errors=True)
        return True

    def relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def bring_inputs(self, arguments: Iterable[Any], reads: Iterable[Path]) -> None:
        """What an item reads: published stages whose folders it is given, and finished places of this part."""
        prepare(self)
        for stage in sorted({self.mirror_stage(value) for value in arguments if isinstance(value, Path)} - {""}):
            fetched(self, stage)
        for path in reads:
            if not path.exists() and not self.fetch(path):
                raise UserError(f"folder: {self.mirror.url}/{self.marker(path)} is gone; give balmer run again")

    def mirror_stage(self, path: Path) -> str:
        """The published stage whose folder this is; empty for any other path."""
        own = path.parent == self.mirror.root and not path.name.endswith(PART)
        return path.name if own else ""


def finished_names(keys: Iterable[str], prefix: str) -> Iterator[str]:
    return (key[len(prefix) : -len(".json")] for key in keys if key.startswith(prefix) and key.endswith(".json"))


@lru_cache(maxsize=64)
def listed(part: Part, folder: Path, moment: int) -> frozenset[str]:
    """Names of what is finished in a folder of a part; asked once a moment, for whoever waits asks often."""
    prefix = f"{part.prefix}{part.relative(folder)}/"
    return frozenset(finished_names(part.mirror.objects.list(prefix), prefix))


@lru_cache(maxsize=64)
def fetched(part: Part, stage: str) -> Path:
    """Once in each process: what a part is made from does not change while it is being made."""
    return part.mirror.fetch_stage(stage)


@lru_cache(maxsize=64)
def prepare(part: Part) -> None:
    remove_others(part.folder)


def remove_others(folder: Path) -> None:
    """Keep one folder of those beside it: the others were made from other things."""
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def settle(path: Path, final: Path) -> None:
    """Move into place, unless another process was first."""
    try:
        os.rename(path, final)
    except OSError:
        if not final.exists():
            raise
