"""Carrying a run through: every stage that is not valid is made, in order, and published at once."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import nullcontext
from typing import Any

from balmer.config import RunConfig
from balmer.engines import engine_of
from balmer.folder import State
from balmer.preflight import check_workers, preflight
from balmer.provenance import identities, made_from
from balmer.remote import open_folder
from balmer.stages import NAMES, STAGES, Stage, stages_of
from balmer.watching import observers
from scale.engine import Engine, Workspace
from scale.errors import UserError
from scale.progress import Progress
from scale.storage.objects import LostError
from scale.store import Manifest, describe_files, remove_unfinished
from scale.watching import Watch

#: A folder made from another model or text is another run.
IDENTITY = ("model.files.", "corpus.source.")
#: An older version did not record the field: that says nothing of another model.
UNRECORDED = ": absent -> "


def peak_memory() -> int:
    """Bytes this process has held at most; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def check_identity(states: list[State], folder: str, overwrite: bool) -> None:
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
        self.config, self.folder = config, open_folder(config)
        self.progress = Watch(progress, observers(config, self.folder))
        self.engine = engine

    def run(self, first: str | None = None, last: str | None = None, overwrite: bool = False) -> list[str]:
        """Make what is missing or stale, and everything from ``first`` on whatever its state; names what was made."""
        positions = chosen(first, last)
        self.folder.check()
        identity = identities(self.config)
        states = self.folder.states(self.config, identity)
        check_identity(states, self.folder.name, overwrite)
        if any(state.status != "done" for state in states):
            preflight(self.config)
        fresh = not self.folder.exists()
        self.folder.path.mkdir(parents=True, exist_ok=True)
        try:
            with self.folder.lock(self.progress.say), self.progress.run():
                self.folder.write_run_file(self.config)
                self.folder.remove_replaced()
                with nullcontext(self.engine) if self.engine else engine_of(self.config, self.folder.path) as engine:
                    to_make = [state for state in states[: positions.stop] if state.status != "done"]
                    check_workers(self.config, engine, to_make)
                    return self.make_stages(engine, positions, identity, first is not None)
        except LostError:  # nothing can be tidied up there
            raise
        except UserError:
            self.folder.clean(fresh)
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
            with self.progress.stage(stage.name, position + 1, len(STAGES)):
                self.make_stage(engine, stage, identity)
            made.append(stage.name)
        return made

    def make_stage(self, engine: Engine, stage: Stage, identity: dict[str, Any]) -> None:
        self.progress.say(f"{stage.name}: {stage.what}")
        started, worked = time.monotonic(), time.process_time()
        inputs = {name: found for name in stage.inputs if (found := self.folder.published(name)) is not None}
        inputs |= self.folder.beside(stage, inputs)
        fields = made_from(stage, self.config, identity, inputs)
        part = self.folder.open_part(stage, fields)
        workspace = Workspace(
            folder=part,
            inputs={name: self.folder.fetched(name) for name in inputs},
            engine=self.folder.engine(stage, engine),
            progress=self.progress,
        )
        facts = stage.make()(workspace, *(getattr(self.config, section) for section in stage.settings))
        remove_unfinished(part)
        self.folder.publish(stage, Manifest(stage.name, fields, describe_files(part), facts))
        self.remember(stage.name, time.monotonic() - started, time.process_time() - worked)

    def remember(self, stage: str, seconds: float, core_seconds: float) -> None:
        """One line per stage made, outside what its manifest vouches for: when, how long, how much memory.

        Core seconds are those of this process and all its threads.
        """
        entry = {
            "stage": stage,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": round(seconds, 2),
            "core_seconds": round(core_seconds, 2),
            "peak_memory_bytes": peak_memory(),
        }
        self.folder.remember(entry)
        self.progress.say(f"{stage}: done in {seconds:.0f} s")
