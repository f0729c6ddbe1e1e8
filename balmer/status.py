"""What is done, what is stale and why, what is left."""

from __future__ import annotations

from pathlib import Path

from balmer.config import RunConfig
from balmer.folder import RunFolder, State
from balmer.provenance import identities
from scale.errors import UserError
from scale.store import SHARDS, UNFINISHED


def describe(state: State, folder: RunFolder) -> str:
    if state.status == "missing":
        shards = folder.part_path(state.stage.name) / SHARDS
        finished = len([p for p in shards.iterdir() if p.suffix != UNFINISHED]) if shards.is_dir() else 0
        return f"begun, {finished} shards finished" if finished else "to do"
    return state.status


def print_status(config: RunConfig) -> None:
    folder = RunFolder(Path(config.folder))
    if not folder.path.is_dir():
        raise UserError(f"folder: {folder.path} does not exist; balmer run makes it")
    folder.check()
    for state in folder.states(config, identities(config)):
        print(f"{state.stage.name:<10} {describe(state, folder):<8} {state.stage.what}")
        for reason in state.reasons:
            print(f"{'':<10}   {reason}")
