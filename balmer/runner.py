"""Carrying a run through: every stage that is not valid is made, in order, and published by one rename."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from balmer.config import RunConfig
from balmer.engines import engine_of
from balmer.folder import RUN_FILE, RunFolder, State
from balmer.preflight import check_workers, preflight
from balmer.provenance import identities, made_from
from balmer.stages import NAMES, STAGES, Stage, stages_of
from scale.engine import Engine, Workspace
from scale.errors import UserError
from scale.progress import Progress
from scale.store import SHARDS, Manifest, describe_files, publish, remove_unfinished, write_manifest

HISTORY = "history.jsonl"
#: A folder made from another model or text is another run.
IDENTITY = ("model.files.", "corpus.source.")
#: An older version did not record the field: that says nothing of another model.
UNRECORDED = ": absent -> "


def peak_memory() -> int:
    """Bytes this process has held at most; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def check_identity(states: list[State], folder: Path, overwrite: bool) -> None:
    """Refuse to turn a run into one of another model or text unless asked to."""
    for state in states:
        changed = [r for r in state.reasons if r.startswith(IDENTITY) and UNRECORDED not in r]
        if changed and not overwrite:
            raise UserError(
                f"folder: {folder} was made from another {changed[0].split('.')[0]} ({changed[0]}); "
                "name another folder, or add --overwrite"
            )


def chosen(first: str | None, last: str | None) -> range:
    """Positions of the stages between ``--from`` and ``--until``, both included."""
    for flag, name in (("--from", first), ("--until", last)):
        if name is not None and name not in NAMES:
            raise UserError(f"{flag}: {name!r} is not a stage; the stages are {', '.join(NAMES)}")
    start = NAMES.index(first) if first else 0
    stop = NAMES.index(last) if last else len(NAMES) - 1
    if start > stop:
        raise UserError(f"--from {first} comes after --until {last}")
    return range(start, stop + 1)


class Runner:
    """Makes the stages of one run."""

    def __init__(self, config: RunConfig, progress: Progress, engine: Engine | None = None) -> None:
        self.config, self.progress = config, progress
        self.folder = RunFolder(Path(config.folder))
        self.engine = engine

    def run(self, first: str | None = None, last: str | None = None, overwrite: bool = False) -> list[str]:
        """Make what is missing or stale, and everything from ``first`` on whatever its state; names what was made."""
        positions = chosen(first, last)
        self.folder.check()
        identity = identities(self.config)
        states = self.folder.states(self.config, identity)
        check_identity(states, self.folder.path, overwrite)
        if any(state.status != "done" for state in states):
            preflight(self.config)
        fresh = not self.folder.path.exists()
        self.folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with self.folder.lock():
                self.folder.write_run_file(self.config)
                self.folder.remove_replaced()
                with nullcontext(self.engine) if self.engine else engine_of(self.config) as engine:
                    to_make = [state for state in states[: positions.stop] if state.status != "done"]
                    check_workers(self.config, engine, to_make)
                    return self.make_stages(engine, positions, identity, first is not None)
        except UserError:
            self.clean(fresh)
            raise

    def make_stages(self, engine: Engine, positions: range, identity: dict[str, Any], again: bool) -> list[str]:
        made = []
        for position, stage in enumerate(stages_of(self.config)[: positions.stop]):
            state = self.folder.states(self.config, identity)[position]
            wanted = state.status != "done" or (again and position in positions)
            if not wanted:
                continue
            if position not in positions:
                raise UserError(f"--from {STAGES[positions.start].name}: {stage.name} is {state.status}; start from it")
            for reason in state.reasons:
                self.progress.say(f"{stage.name}: {reason}")
            self.make_stage(engine, stage, identity)
            made.append(stage.name)
        return made

    def make_stage(self, engine: Engine, stage: Stage, identity: dict[str, Any]) -> None:
        self.progress.say(f"{stage.name}: {stage.what}")
        started = time.monotonic()
        inputs = {name: self.folder.published(name) for name in stage.inputs}
        fields = made_from(stage, self.config, identity, {name: found for name, found in inputs.items() if found})
        part = self.folder.open_part(stage, fields)
        workspace = Workspace(
            folder=part,
            inputs={name: self.folder.stage_path(name) for name in stage.inputs},
            engine=engine,
            progress=self.progress,
        )
        facts = stage.make()(workspace, *(getattr(self.config, section) for section in stage.settings))
        remove_unfinished(part)
        write_manifest(part, Manifest(stage.name, fields, describe_files(part), facts))
        publish(part, self.folder.stage_path(stage.name))
        self.folder.close_part(stage)
        self.remember(stage.name, time.monotonic() - started)

    def remember(self, stage: str, seconds: float) -> None:
        """One line per stage made, outside what its manifest vouches for: when, how long, how much memory."""
        entry = {
            "stage": stage,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": round(seconds, 2),
            "peak_memory_bytes": peak_memory(),
        }
        with open(self.folder.path / HISTORY, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.progress.say(f"{stage}: done in {seconds:.0f} s")

    def clean(self, fresh: bool) -> None:
        """After a mistake of the user: leave nothing behind that holds no finished work."""
        for stage in STAGES:
            part = self.folder.part_path(stage.name)
            if part.exists() and not any((part / SHARDS).glob("*/*.npy")):
                shutil.rmtree(part)
                self.folder.close_part(stage)
        empty = not any(self.folder.stage_path(name).exists() or self.folder.part_path(name).exists() for name in NAMES)
        if fresh and empty and (self.folder.path / RUN_FILE).exists():
            shutil.rmtree(self.folder.path)
