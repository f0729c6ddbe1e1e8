"""A run folder on object storage, with a copy of what is being worked with on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balmer.config import RunConfig
from balmer.folder import HISTORY, PART, PROGRESS, RUN_FILE, RunFolder, run_file
from balmer.stages import NAMES, Stage
from scale.errors import UserError
from scale.storage.lease import KEY as LOCK
from scale.storage.lease import Lease, held, standing
from scale.storage.mirror import Mirror, Pointer, alone
from scale.storage.mirrored import MirroredEngine
from scale.storage.objects import is_url, side_by_side
from scale.storage.part import BEGUN, Part, part_of
from scale.store import SHARDS, Manifest, publish, write_manifest

if TYPE_CHECKING:
    from scale.engine import Engine


def open_folder(config: RunConfig) -> RunFolder:
    """The run folder that a configuration names."""
    if not is_url(config.folder):
        return RunFolder(Path(config.folder))
    return RemoteFolder(Mirror(config.folder, scratch(config)))


def scratch(config: RunConfig) -> Path:
    """Where a run on a store has its copy: a folder that is named after it, the same on every machine."""
    name = re.sub(r"[^\w.-]+", "-", config.folder)
    unique = f"{name[-80:].strip('-')}-{hashlib.sha256(config.folder.encode()).hexdigest()[:8]}"
    place = config.scratch or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "balmer")
    return Path(place).expanduser().absolute() / unique


class RemoteFolder(RunFolder):
    """One run on a store; its path is that of the copy."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(mirror.root)
        self.mirror, self.name = mirror, mirror.url
        self.lease: Lease | None = None
        self.worked = False
        self.counted = replace(mirror.objects.traffic)
        self.parts: dict[str, Part] = {}
        self.pointers: dict[str, Pointer | None] = {}

    def refresh(self) -> None:
        """Look again at what is published: nobody else changes it while this process has the lock."""
        self.pointers = dict(zip(NAMES, side_by_side(self.mirror.pointer, NAMES), strict=True))

    def pointer(self, name: str) -> Pointer | None:
        if not self.pointers:
            self.refresh()
        return self.pointers[name]

    def published(self, name: str) -> Manifest | None:
        pointer = self.pointer(name)
        return pointer.manifest if pointer else None

    def beside(self, stage: Stage, inputs: Mapping[str, Manifest]) -> dict[str, Manifest]:
        """Nothing: controls are made of local folders alone."""
        return {}

    def part_path(self, name: str) -> Path:
        return self.parts[name].folder if name in self.parts else super().part_path(name)

    def contents(self) -> set[str]:
        """What lies there, but for locks: a process may have ended that had got no further."""
        return {name for name in self.mirror.objects.names() if not name.startswith(LOCK)}

    def exists(self) -> bool:
        return bool(self.contents())

    def fetched(self, name: str) -> Path:
        return self.mirror.fetch_stage(name)

    def engine(self, stage: Stage, engine: Engine) -> Engine:
        return MirroredEngine(engine, self.parts[stage.name])

    def finished_shards(self, name: str) -> int:
        keys = self.mirror.objects.list(f"{name}{PART}/")
        return len([key for key in keys if key.split("/")[2] == SHARDS and key.endswith(".json")])

    def check(self) -> None:
        found = self.contents()
        if found and RUN_FILE not in found:
            raise UserError(
                f"folder: {self.name} is not empty and not a run (it has no {RUN_FILE}); name another folder"
            )

    def open_part(self, stage: Stage, fields: dict[str, Any]) -> Path:
        part = part_of(self.mirror, stage.name, fields, self.pointer(stage.name))
        self.parts[stage.name] = part
        part.begin(fields)
        return part.folder

    def publish(self, stage: Stage, manifest: Manifest) -> None:
        """First on the store, then here: nothing is here that is not there."""
        part = self.parts[stage.name]
        if self.lease is not None:
            self.lease.check()
        replaced = self.pointer(stage.name)
        self.pointers[stage.name] = self.mirror.publish_stage(stage.name, part.folder, manifest, replaced)
        write_manifest(part.folder, manifest)
        with alone(self.mirror.lock_path(stage.name)):
            publish(part.folder, self.stage_path(stage.name))
        self.close_part(stage)

    def close_part(self, stage: Stage) -> None:
        self.parts.pop(stage.name, None)
        shutil.rmtree(self.part_path(stage.name), ignore_errors=True)

    def remove_replaced(self) -> None:
        super().remove_replaced()
        shutil.rmtree(self.mirror.incoming, ignore_errors=True)
        for name in NAMES:
            pointer = self.pointer(name)
            if pointer is not None and self.mirror.unswept(name, pointer):
                self.mirror.sweep(name, pointer)

    def write_run_file(self, config: RunConfig) -> None:
        self.mirror.objects.put(RUN_FILE, run_file(config))

    def remember(self, entry: dict[str, Any]) -> None:
        found, traffic = self.mirror.objects.get(HISTORY), self.mirror.objects.traffic
        moved = {
            "sent_bytes": traffic.sent - self.counted.sent,
            "received_bytes": traffic.received - self.counted.received,
        }
        self.counted = replace(traffic)
        line = json.dumps(entry | moved) + "\n"
        self.mirror.objects.put(HISTORY, (found.content if found else b"") + line.encode())

    def keep_account(self, account: dict[str, Any]) -> None:
        self.mirror.objects.put(PROGRESS, json.dumps(account).encode())

    def account(self) -> dict[str, Any] | None:
        found = self.mirror.objects.get(PROGRESS)
        return None if found is None else json.loads(found.content)

    def at_work(self) -> bool:
        found = self.mirror.objects.get(LOCK)
        return found is not None and not standing(found, self.mirror.objects)

    def clean(self, fresh: bool) -> None:
        """What is there of a run that made nothing is its run file and words of what it began."""
        objects = self.mirror.objects
        if self.worked and fresh and not any(self.finished_shards(name) or self.published(name) for name in NAMES):
            objects.delete(
                key for key in objects.list() if key in (RUN_FILE, PROGRESS) or key.endswith(f"/{BEGUN}.json")
            )
            shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def lock(self, say: Callable[[str], None]) -> Iterator[None]:
        """One process at a time: on this machine, and among all that use the store."""
        with super().lock(say), held(self.mirror.objects, say) as lease:
            self.lease, self.worked = lease, True
            self.refresh()
            yield
