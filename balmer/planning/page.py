"""A plan as a table for people."""

from __future__ import annotations

from typing import Any

from balmer.planning.plan import Plan, StagePlan, advice
from balmer.planning.rates import KINDS

UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
#: Characters that the table needs; a narrower terminal wraps its lines.
WIDTH = 110
SPANS = ((365.25 * 86400, "years"), (86400, "days"), (3600, "h"), (60, "min"))


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:.3g} {name}" if count < 1000 * unit else f"{count / unit:,.0f} {name}"
    return f"{count:.0f} B"


def span(seconds: float) -> str:
    """Time as people say it."""
    for unit, name in SPANS:
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.3g} {name}" if seconds < 1000 * unit else f"{seconds / unit:,.0f} {name}"
    return f"{seconds:.3g} s" if seconds >= 1 else "under 1 s"


def hours(seconds: float) -> str:
    found = seconds / 3600
    return f"{found:,.0f}" if found >= 100 else f"{found:.2g}" if found >= 0.005 else "-"


def shares(stage: StagePlan) -> str:
    """What takes its time, the most first."""
    ordered = sorted(stage.seconds.items(), key=lambda item: -item[1])
    parts = [(KINDS[kind][1], seconds / stage.total) for kind, seconds in ordered if stage.total]
    return ", ".join(f"{words} {100 * share:.0f} %" for words, share in parts[:2] if share >= 0.15)


def row(stage: StagePlan, cuda: bool) -> tuple[str, ...]:
    held = [size(count) for count in (stage.worker_bytes, stage.driver_bytes) if count]
    device = (hours(stage.device_seconds), hours(stage.core_seconds)) if cuda else (
        hours(stage.device_seconds + stage.core_seconds),
    )  # fmt: skip
    return (stage.name, span(stage.total), *device, " + ".join(held), size(stage.disk_bytes), shares(stage))


def header(found: Plan) -> list[str]:
    extent, cluster = found.extent, found.cluster
    devices = "GPUs" if extent.device == "cuda" else "workers"
    machines = f" of {cluster.machines} machines" if cluster.machines > 1 else ""
    lines = [
        f"{extent.parameters:,} parameters, {extent.components} components; {extent.measured_rows:,} tokens measured "
        f"({extent.config.sgld.estimator}), {extent.predicted_rows:,} predicted",
        f"on {cluster.workers} {devices} and {cluster.cores} processor cores{machines}",
    ]
    by_origin: dict[str, list[str]] = {}
    for kind in KINDS:
        by_origin.setdefault(found.rates.origin(kind), []).append(kind)
    lines += [f"rates: {origin}: {', '.join(kinds)}" for origin, kinds in by_origin.items()]
    measured = found.rates.shape
    if measured and (measured.width, measured.vocabulary) != (extent.shape.width, extent.shape.vocabulary):
        lines.append(
            f"  those of the model were measured {measured.width} wide with {measured.vocabulary:,} words, not "
            f"{extent.shape.width} with {extent.shape.vocabulary:,}"
        )
    return lines


def footer(found: Plan) -> list[str]:
    cuda, longest = found.extent.device == "cuda", found.longest
    total = f"{found.device_hours:,.3g} GPU hours and {found.core_hours:,.3g} core hours" if cuda else (
        f"{found.device_hours + found.core_hours:,.3g} core hours"
    )  # fmt: skip
    libraries = found.rates.library_bytes or 0
    words, seconds = advice(found)
    lines = [
        f"in all {span(found.seconds)}, {total}, at most {size(found.disk_bytes)} of disk while it is made",
        f"memory is beside the libraries' {size(libraries)}; of every worker, and of the process that plans them",
        f"bounded by {longest.name}, {100 * longest.total / found.seconds:.0f} % of the time: "
        f"{KINDS[longest.bound][1]}",
    ]
    return [*lines, f"{words} would make it {span(seconds)}" if words else "no single setting would change that much"]


def table(found: Plan) -> Any:
    from rich.table import Table

    cuda = found.extent.device == "cuda"
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    columns = ["stage", "time", *(["GPU h", "core h"] if cuda else ["core h"]), "memory", "disk", "spent on"]
    for name in columns:
        made.add_column(name, justify="left" if name in ("stage", "spent on") else "right", no_wrap=True)
    for stage in found.stages:
        made.add_row(*row(stage, cuda))
    return made


def print_plan(found: Plan) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.width = max(console.width, WIDTH)
    for line in header(found):
        console.print(line, soft_wrap=True)
    console.print(table(found))
    for line in footer(found):
        console.print(line, soft_wrap=True)
