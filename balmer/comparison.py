"""`balmer controls RUN`: the finished controls of a run beside it, in ``controls/controls.parquet`` and in words."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl

from balmer.config import CONTROLS, RunConfig
from balmer.controls import control_folder
from balmer.folder import RunFolder
from eval.beside import RUN, Outcome, overlap, sentences, supported_more_often
from scale.errors import UserError
from scale.store import read_array, read_json, read_table, write_json, write_table

FOLDER = "controls"


def compare(config: RunConfig) -> list[str]:
    """Write the table and the sentences; return them."""
    place = Path(config.folder)
    run = outcome(place, RUN, place)
    found = {control: control_folder(place, control) for control in CONTROLS}
    made = {control: folder for control, folder in found.items() if finished(folder)}
    if not made:
        raise UserError(f"{place}: no control of it is finished; balmer run {place} --control permuted makes one")
    controls = [outcome(folder, control, place) for control, folder in made.items()]
    controls = [replace(own, p=supported_more_often(run, own)) for own in controls]
    rows = [asdict(own) | {"supported_share": own.supported_share} for own in (run, *controls)]
    write_table(place / FOLDER / "controls.parquet", pl.DataFrame(rows).fill_nan(None))
    said = sentences(run, controls)
    write_json(place / FOLDER / "summary.json", {"sentences": said})
    return said


def finished(folder: Path) -> bool:
    return RunFolder(folder).published("leakage") is not None


def outcome(folder: Path, name: str, run: Path) -> Outcome:
    clusters, leakage = (RunFolder(folder).published(stage) for stage in ("clusters", "leakage"))
    if clusters is None or leakage is None:
        raise UserError(f"{folder}: not finished; balmer run {folder} goes on with it")
    told = read_json(folder / "leakage" / "summary.json")["noise"]["clusters told apart"]["across"]
    sizes = read_table(folder / "clusters" / "clusters.parquet")["size"]
    return Outcome(
        name=name,
        clusters=len(sizes),
        tested=leakage.facts["tested"],
        supported=leakage.facts["supported"],
        median_size=float(np.median(sizes)) if len(sizes) else float("nan"),
        clustered_share=clusters.facts["clustered_share"],
        overlap=overlap(*(labels(place) for place in (run, folder))) if same_tokens(run, folder) else float("nan"),
        told_apart=float("nan") if told is None else told,
    )


def labels(folder: Path) -> np.ndarray:
    return np.array(read_array(folder / "clusters" / "labels.npy"))


def same_tokens(one: Path, other: Path) -> bool:
    """Whether the rows of two runs are the same tokens."""
    manifests = [RunFolder(place).published("corpus") for place in (one, other)]
    return manifests[0] is not None and manifests[1] is not None and manifests[0].digest == manifests[1].digest
