"""What is done, what is stale and why, what is left."""

from __future__ import annotations

import time

from balmer.config import RunConfig
from balmer.control_state import standing
from balmer.folder import RunFolder, State
from balmer.provenance import identities
from balmer.remote import open_folder
from balmer.stages import BESIDE
from balmer.watching import said_of
from scale.errors import UserError
from scale.storage.objects import is_url


def describe(state: State, folder: RunFolder) -> str:
    if state.status == "missing":
        finished = folder.finished_shards(state.stage.name)
        return f"begun, {finished} shards finished" if finished else "to do"
    return state.status


def print_status(config: RunConfig) -> None:
    folder = open_folder(config)
    if not folder.exists():
        raise UserError(f"folder: {folder.name} does not exist; balmer run makes it")
    folder.check()
    if heard := folder.account():
        print(said_of(heard, folder.at_work(), time.time()))
    for state in folder.states(config, identities(config)):
        print(f"{state.stage.name:<10} {describe(state, folder):<8} {state.stage.what}")
        for reason in state.reasons:
            print(f"{'':<10}   {reason}")
    if not is_url(config.folder) and (found := standing(folder.path)):
        print(f"{BESIDE:<10} {found[0]:<8} the run beside its controls (balmer controls)")
        for reason in found[1]:
            print(f"{'':<10}   {reason}")
