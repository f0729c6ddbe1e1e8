"""The run beside its controls, as `balmer controls` laid them beside it; a data file of its own.

It may come long after the report, so the report can be renewed by this file alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.report.chunks import write_script
from cluster.report.inputs import Inputs, open_inputs
from cluster.report.numbers import rounded
from scale.store import link_folder

#: The data file, and the fact of the report that repeats its sentences.
CONTROLS = "controls"
FIGURES = (
    "clusters", "median_size", "largest_size", "clustered_share", "overlap", "told_apart", "supported", "tested", "p",
)  # fmt: skip
WORDS = ("name", "without", "verdict", "sentence")


def controls_data(run: Inputs) -> list[dict[str, Any]] | None:
    """A row for the run and one for every control; None where no control lies beside it."""
    table = run.optional(CONTROLS, CONTROLS)
    if table is None:
        return None
    found = table.select(*WORDS, *FIGURES).collect()
    return [
        {name: row[name] if name in WORDS else rounded(row[name]) for name in found.columns}
        for row in found.iter_rows(named=True)
    ]


def write_controls(folder: Path, run: Inputs, limit: int) -> list[str]:
    """Write `data/controls.js`; a line for every control."""
    data = controls_data(run)
    write_script(folder, CONTROLS, data, limit)
    return [f"Control {row['name']}: {row['sentence']}" for row in data or () if row["sentence"]]


def renew(
    report: Path, facts: Mapping[str, Any], inputs: Mapping[str, Path], folder: Path, limit: int
) -> dict[str, Any]:
    """The report once more in `folder`, its files linked, with the controls that lie beside the run now; its facts."""
    link_folder(report, folder)
    (folder / "data" / f"{CONTROLS}.js").unlink()
    return dict(facts) | {CONTROLS: write_controls(folder, open_inputs(inputs), limit)}
