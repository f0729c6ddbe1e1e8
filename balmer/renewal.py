"""The report of a run with the controls that lie beside it now: one of its files is written, the others linked."""

from __future__ import annotations

from pathlib import Path

from balmer.config import RunConfig
from balmer.folder import INPUT, RunFolder, State
from balmer.provenance import identities, made_from
from balmer.stages import BESIDE
from cluster.report.controls import renew
from scale.progress import Silent
from scale.store import Manifest, describe_files


def renew_report(config: RunConfig) -> bool:
    """Whether the report now shows the controls; not where it is to be made for other reasons too."""
    folder, identity = RunFolder(Path(config.folder)), identities(config)
    with folder.lock(Silent().say):
        *before, state = folder.states(config, identity)
        if not only_beside(state) or state.manifest is None:
            return state.status == "done"
        stage, inputs = state.stage, {own.stage.name: own.manifest for own in before if own.manifest is not None}
        inputs |= folder.beside(stage, inputs)
        fields = made_from(stage, config, identity, inputs)
        part = folder.open_part(stage, fields)
        places = {name: folder.stage_path(name) for name in (*stage.inputs, *stage.beside) if name in inputs}
        report, limit = folder.stage_path(stage.name), config.report.chunk_bytes
        facts = renew(report, state.manifest.facts, places, part, limit)
        folder.publish(stage, Manifest(stage.name, fields, describe_files(part), facts))
    return True


def only_beside(state: State) -> bool:
    """Whether what is beside the stages is all that has changed."""
    return state.status == "stale" and all(reason.startswith(f"{INPUT}{BESIDE}: ") for reason in state.reasons)
