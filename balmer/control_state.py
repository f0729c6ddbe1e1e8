"""Which controls of a run are finished and made as the run is; whether the table beside it is still about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from balmer.config import CONTROLS
from balmer.controls import control_folder
from balmer.folder import RunFolder
from balmer.provenance import differences
from balmer.stages import BESIDE, NAMES
from scale.errors import UserError
from scale.store import Manifest

#: What is compared, made last; and what a control changes of the fields on the way there.
COMPARED = ("clusters", "leakage")
CHANGED = ("input.", "stage.control", "sgld.nbeta", "sgld.sampler")


@dataclass(frozen=True)
class Found:
    """The finished controls of a run by name: those that can be laid beside it, and why the others cannot."""

    alike: dict[str, Path]
    unlike: dict[str, list[str]]


def controls_of(run: Path) -> Found:
    found = Found({}, {})
    for control in CONTROLS:
        folder = control_folder(run, control)
        if not finished(folder):
            continue
        if reasons := unlike(run, folder):
            found.unlike[control] = reasons
        else:
            found.alike[control] = folder
    return found


def finished(folder: Path) -> bool:
    return RunFolder(folder).published(COMPARED[-1]) is not None


def unlike(run: Path, control: Path) -> list[str]:
    """Settings, model or text in which a control differs from the run, but for what makes it the control."""
    reasons = []
    for stage in NAMES[: NAMES.index(COMPARED[-1]) + 1]:
        manifests = [RunFolder(folder).published(stage) for folder in (run, control)]
        fields = [{} if m is None else kept(m) for m in manifests]
        reasons += [f"{stage}: {reason}" for reason in differences(*fields)]
    return reasons


def kept(manifest: Manifest) -> dict[str, object]:
    return {key: value for key, value in manifest.made_from.items() if not key.startswith(CHANGED)}


def compared_from(run: Path, controls: dict[str, Path]) -> dict[str, str]:
    """The content of what is compared, by place."""
    places = {"input": run, **controls}
    return {f"{name}.{stage}": published(folder, stage).digest for name, folder in places.items() for stage in COMPARED}


def published(folder: Path, stage: str) -> Manifest:
    manifest = RunFolder(folder).published(stage)
    if manifest is None:
        raise UserError(f"{folder}: not finished; balmer run {folder} goes on with it")
    return manifest


def standing(run: Path) -> tuple[str, list[str]] | None:
    """Whether the table is there and about the run and its controls as they are; None where there are no controls."""
    written, found = RunFolder(run).published(BESIDE), controls_of(run)
    left_out = [f"{control} is left out: {reasons[0]}" for control, reasons in found.unlike.items()]
    if written is None:
        return ("to do", left_out) if found.alike or left_out else None
    if not finished(run):
        return "stale", ["the run is not finished"]
    reasons = differences(written.made_from, compared_from(run, found.alike))
    return "stale" if reasons else "done", reasons + left_out
