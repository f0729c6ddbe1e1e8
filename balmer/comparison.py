"""`balmer controls RUN`: the finished controls of a run beside it, in ``controls/controls.parquet`` and in words.

The folder ``controls`` is published as a stage is, with a manifest that says which clusters it is about. It is no
stage: a run is finished without it, and the report shows it where it is there (`RunFolder.beside`).
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from balmer.config import RunConfig
from balmer.control_state import COMPARED, compared_from, controls_of, published
from balmer.folder import PART
from balmer.stages import BESIDE
from eval.beside import RUN, Outcome, overlap, rows, sentences, supported_more_often
from scale.errors import UserError
from scale.store import (
    Manifest,
    describe_files,
    publish,
    read_array,
    read_json,
    read_table,
    write_json,
    write_manifest,
    write_table,
)


def compare(config: RunConfig) -> list[str]:
    """Write the table and the sentences; return them, with a line for every control that was left out."""
    place = Path(config.folder)
    run = outcome(place, RUN, place)
    found = controls_of(place)
    left_out = [
        f"Control {name} is left out: {reasons[0]}; balmer run {place} --control {name} makes it as the run is"
        for name, reasons in found.unlike.items()
    ]
    if not found.alike:
        none = f"{place}: no control of it is finished; balmer run {place} --control permuted makes one"
        raise UserError(left_out[0] if left_out else none)
    controls = [outcome(folder, control, place) for control, folder in found.alike.items()]
    controls = [replace(own, p=supported_more_often(run, own)) for own in controls]
    table, said = pl.DataFrame(rows(run, controls), infer_schema_length=None), sentences(run, controls)
    part = place / f"{BESIDE}{PART}"
    shutil.rmtree(part, ignore_errors=True)
    write_table(part / f"{BESIDE}.parquet", table.fill_nan(None))
    write_json(part / "summary.json", {"sentences": said})
    write_manifest(part, Manifest(BESIDE, compared_from(place, found.alike), describe_files(part), {}))
    publish(part, place / BESIDE)
    return said + left_out


def outcome(folder: Path, name: str, run: Path) -> Outcome:
    clusters, leakage = (published(folder, stage) for stage in COMPARED)
    told = read_json(folder / "leakage" / "summary.json")["noise"]["clusters told apart"]["across"]
    sizes = read_table(folder / "clusters" / "clusters.parquet")["size"].to_numpy()
    return Outcome(
        name=name,
        clusters=len(sizes),
        tested=leakage.facts["tested"],
        supported=leakage.facts["supported"],
        median_size=float(np.median(sizes)) if len(sizes) else float("nan"),
        largest_size=float(np.max(sizes)) if len(sizes) else float("nan"),
        clustered_share=clusters.facts["clustered_share"],
        overlap=overlap(*(labels(place) for place in (run, folder))) if same_tokens(run, folder) else float("nan"),
        told_apart=float("nan") if told is None else told,
    )


def labels(folder: Path) -> np.ndarray:
    return np.array(read_array(folder / "clusters" / "labels.npy"))


def same_tokens(one: Path, other: Path) -> bool:
    """Whether the rows of two runs are the same tokens."""
    return published(one, "corpus").digest == published(other, "corpus").digest
