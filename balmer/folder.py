"""The run folder: its lock, its run file, and which of its stages are published and still valid."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from balmer.config import RunConfig
from balmer.provenance import differences, made_from
from balmer.stages import NAMES, STAGES, Stage, stages_of
from scale.errors import UserError
from scale.storage.filelock import locked
from scale.store import (
    MANIFEST,
    SHARDS,
    UNFINISHED,
    Manifest,
    publish,
    read_json,
    read_manifest,
    write_bytes,
    write_json,
    write_manifest,
)

if TYPE_CHECKING:
    from scale.engine import Engine

HISTORY = "history.jsonl"
PROGRESS = "progress.json"
RUN_FILE = "run.yaml"
LOCK = "lock"
PART = ".part"
INPUT = "input."
LIBRARIES = ("torch", "transformers", "lightning", "numpy", "scipy", "polars", "numba", "faiss-cpu", "faiss-gpu")


@dataclass(frozen=True)
class State:
    """Where a stage stands: "done", "stale" or "missing", why it is stale, and its manifest if it is published."""

    stage: Stage
    status: str
    reasons: list[str]
    manifest: Manifest | None


class RunFolder:
    """One run on disk; ``name`` is what its user calls it."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    def stage_path(self, name: str) -> Path:
        return self.path / name

    def part_path(self, name: str) -> Path:
        return self.path / (name + PART)

    def published(self, name: str) -> Manifest | None:
        folder = self.stage_path(name)
        return read_manifest(folder) if (folder / MANIFEST).is_file() else None

    def beside(self, stage: Stage, inputs: Mapping[str, Manifest]) -> dict[str, Manifest]:
        """What the stage reads that is no stage, where it is there and about the very inputs that the stage has."""
        found = {name: manifest for name in stage.beside if (manifest := self.published(name)) is not None}
        return {name: own for name, own in found.items() if is_about(own, inputs)}

    def exists(self) -> bool:
        return self.path.is_dir()

    def fetched(self, name: str) -> Path:
        """The folder of a published stage, on this machine."""
        return self.stage_path(name)

    def engine(self, stage: Stage, engine: Engine) -> Engine:
        """What runs the items of a stage that is being made."""
        return engine

    def finished_shards(self, name: str) -> int:
        """Of a stage that was begun and is not published."""
        shards = self.part_path(name) / SHARDS
        return len([p for p in shards.iterdir() if p.suffix != UNFINISHED]) if shards.is_dir() else 0

    def check(self) -> None:
        """Refuse a folder that exists and holds something other than a run."""
        if self.path.is_file():
            raise UserError(f"folder: {self.path} is a file; name a folder")
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / RUN_FILE).is_file():
            raise UserError(
                f"folder: {self.path} is not empty and not a run (it has no {RUN_FILE}); name another folder"
            )

    def states(self, config: RunConfig, identity: dict[str, Any]) -> list[State]:
        """Every stage in order. Content decides: an earlier stage made again with the same result changes nothing."""
        manifests: dict[str, Manifest] = {}
        states = []
        for stage in stages_of(config):
            found = self.published(stage.name)
            waiting = [name for name in stage.inputs if name not in manifests]
            if found is None:
                states.append(State(stage, "missing", [], None))
            elif waiting:
                states.append(State(stage, "stale", [f"input.{name} is to be made" for name in waiting], found))
            else:
                inputs = manifests | self.beside(stage, manifests)
                reasons = differences(found.made_from, made_from(stage, config, identity, inputs))
                states.append(State(stage, "stale" if reasons else "done", reasons, found))
                if not reasons:
                    manifests[stage.name] = found
        return states

    def open_part(self, stage: Stage, fields: dict[str, Any]) -> Path:
        """The folder in which a stage is made: an interrupted one goes on only if it was made from the same things."""
        part = self.part_path(stage.name)
        note = self.path / f"{stage.name}{PART}.json"
        if part.exists() and not (note.is_file() and read_json(note) == fields):
            shutil.rmtree(part)
        if not part.exists():
            write_json(note, fields)
            part.mkdir()
        return part

    def publish(self, stage: Stage, manifest: Manifest) -> None:
        """The finished part becomes the stage."""
        part = self.part_path(stage.name)
        write_manifest(part, manifest)
        publish(part, self.stage_path(stage.name))
        self.close_part(stage)

    def close_part(self, stage: Stage) -> None:
        (self.path / f"{stage.name}{PART}.json").unlink(missing_ok=True)

    def remember(self, entry: dict[str, Any]) -> None:
        """One line in the history, outside what manifests vouch for."""
        with open(self.path / HISTORY, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def keep_account(self, account: dict[str, Any]) -> None:
        """Where the run is, in place of what was said of it before."""
        if self.path.is_dir():
            write_json(self.path / PROGRESS, account)

    def account(self) -> dict[str, Any] | None:
        """What a run last said of itself; None if it never did."""
        found: dict[str, Any] | None = read_json(self.path / PROGRESS) if (self.path / PROGRESS).is_file() else None
        return found

    def at_work(self) -> bool:
        """Whether a process holds the run's lock."""
        if not (self.path / LOCK).exists():
            return False
        with open(self.path / LOCK, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def clean(self, fresh: bool) -> None:
        """After a mistake of the user: leave nothing behind that holds no finished work."""
        for stage in STAGES:
            part = self.part_path(stage.name)
            if part.exists() and not any((part / SHARDS).glob("*/*.npy")):
                shutil.rmtree(part)
                self.close_part(stage)
        empty = not any(self.stage_path(name).exists() or self.part_path(name).exists() for name in NAMES)
        if fresh and empty and (self.path / RUN_FILE).exists():
            shutil.rmtree(self.path)

    def remove_replaced(self) -> None:
        """What a stage replaced, if the process ended between the swap and the removal."""
        for stage in STAGES:
            shutil.rmtree(self.path / f"{stage.name}.old", ignore_errors=True)

    def write_run_file(self, config: RunConfig) -> None:
        write_bytes(self.path / RUN_FILE, run_file(config))

    @contextmanager
    def lock(self, say: Callable[[str], None]) -> Iterator[None]:
        """One process at a time; the lock goes with the process, however it ends."""
        with locked(self.path / LOCK, self.name, say):
            yield


def is_about(manifest: Manifest, inputs: Mapping[str, Manifest]) -> bool:
    """Whether what a folder was made from is what the inputs are now."""
    named = {name.removeprefix(INPUT): digest for name, digest in manifest.made_from.items() if name.startswith(INPUT)}
    return all(name in inputs and inputs[name].digest == digest for name, digest in named.items())


def run_file(config: RunConfig) -> bytes:
    """The resolved configuration, under what made the run."""
    return (header() + yaml.safe_dump(lists(asdict(config)), sort_keys=False, allow_unicode=True)).encode()


def lists(value: Any) -> Any:
    """Tuples as lists, all the way down: YAML has no tuples."""
    if isinstance(value, dict):
        return {key: lists(item) for key, item in value.items()}
    return [lists(item) for item in value] if isinstance(value, list | tuple) else value


def header() -> str:
    """What made this run, as comments: the file can be run again as it stands."""
    installed = ", ".join(f"{name} {found}" for name in LIBRARIES if (found := installed_version(name)))
    return f"# balmer {installed_version('balmer') or 'not installed'}, commit {commit()}\n# {installed}\n"


def installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str:
    """The git commit of the clone that is running, with a mark if it was changed since."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return "unknown"
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"
