"""Draws what `benchmarks.estimators` has found.

    python -m benchmarks.estimators.figure RESULTS.jsonl [MORE.jsonl] --out docs/images/estimators.svg
        [--gammas 300] [--nbetas 30] [--parts covariance shift]

Two figures, a row of panels for each file and part, a column for each kind of component. Reliability against cost, a
row for each cell (γ, nβ): the median over components of the kind, Pearson solid, of ranks dashed, components faint.
And, beside it as ESTIMATORS-agreement.svg, the corrected correlation and the slope of long chains with each
estimator, in all cells, with 95 % intervals: an unbiased estimator's hold 1. An interval that ends nowhere is dotted.
The suffix of --out decides the format.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.estimators.records import Record, read
from scale.errors import UserError

#: Colour and marker of estimators in the order they come in: colours of Okabe and Ito, apart in lightness as well.
STYLES = [("#000000", "o"), ("#D55E00", "s"), ("#56B4E9", "^"), ("#009E73", "D"), ("#CC79A7", "v")]
KINDS = ("head", "mlp", "embed", "unembed")
TITLES = {"head": "heads", "mlp": "MLPs", "embed": "embedding", "unembed": "unembedding"}
QUANTITIES = ("correlation", "slope")
#: What of the agreement is shown.
LOW, HIGH = -0.5, 2.0
INCHES = 2.6


@dataclass(frozen=True)
class Line:
    """One estimator on one component, or the median over several: cost and both reliabilities, draw by draw."""

    cost: np.ndarray
    pearson: np.ndarray
    rank: np.ndarray


@dataclass(frozen=True)
class Result:
    """One file."""

    label: str
    records: list[Record]

    @property
    def cells(self) -> list[tuple[float, float]]:
        return sorted({(record["gamma"], record["nbeta"]) for record in self.records})


def kinds_in(results: Sequence[Result]) -> list[str]:
    """The kinds of the figure's columns, then any other."""
    found = {record["kind"] for result in results for record in result.records}
    return [kind for kind in KINDS if kind in found] + sorted(found - set(KINDS))


def estimators_in(results: Sequence[Result]) -> list[str]:
    rows = (row for result in results for record in result.records for row in record["points"])
    return list(dict.fromkeys(row["estimator"] for row in rows))


def lines_of(records: Sequence[Record], estimator: str, part: str) -> list[Line]:
    """One for each component that the estimator could measure."""
    found = []
    for record in records:
        rows = [row for row in record["points"] if (row["estimator"], row["part"]) == (estimator, part)]
        if rows:
            rows.sort(key=lambda row: row["draws"])
            columns = ([np.nan if row[key] is None else row[key] for row in rows] for key in vars(EMPTY))
            found.append(Line(*map(np.array, columns)))
    return found


EMPTY = Line(*np.empty((3, 0)))


def median(lines: Sequence[Line]) -> Line:
    """Over components; all have the same ladder of draws."""
    if not lines:
        return EMPTY
    return Line(*(np.median([getattr(line, key) for line in lines], axis=0) for key in vars(EMPTY)))


def ends(estimate: dict[str, float | None]) -> tuple[float, float, bool]:
    """What is drawn of an interval, and whether it has ends at all."""
    low, high = estimate["low"], estimate["high"]
    if low is None or high is None:
        return LOW, HIGH, False
    return max(low, LOW), min(high, HIGH), True


def panels(rows: int, columns: int, width: float, sharex: bool, sharey: bool = True) -> tuple[Any, np.ndarray]:
    """Panels of a row share their y axis with ``sharey``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, INCHES * rows + 0.5), layout="constrained")
    shared: Literal["row", "none"] = "row" if sharey else "none"
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False, sharey=shared, sharex=sharex))


def draw_reliability(results: Sequence[Result], cells: Sequence[tuple[float, float]], parts: Sequence[str]) -> Any:
    kinds, names = kinds_in(results), estimators_in(results)
    wanted = [(result, cell, part) for result in results for cell in result.cells if cell in cells for part in parts]
    if not wanted:
        raise UserError("--gammas, --nbetas: no such cell in these files")
    figure, axes = panels(len(wanted), len(kinds), 2.9, sharex=True)
    for row, (result, cell, part) in zip(axes, wanted, strict=True):
        records = [record for record in result.records if (record["gamma"], record["nbeta"]) == cell]
        for panel, kind in zip(row, kinds, strict=True):
            own = [record for record in records if record["kind"] == kind]
            draw_lines(panel, own, names, part)
            if not own:
                panel.text(0.5, 0.5, "none measured", transform=panel.transAxes, ha="center", color="grey")
        label = f"{result.label}, γ {cell[0]:g}, nβ {cell[1]:g}" if len(results) > 1 or len(cells) > 1 else ""
        row[0].set_ylabel("\n".join(filter(None, (label, f"{part}: split-half r"))))
    finish(figure, axes, kinds, names, "forward passes of one context, sampling included")
    return figure


def draw_lines(panel: Any, records: Sequence[Record], names: Sequence[str], part: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_ylim(-0.25, 1.02)
    panel.grid(alpha=0.3, linewidth=0.5)
    for name, (colour, marker) in zip(names, STYLES, strict=False):
        lines = lines_of(records, name, part)
        for line in lines if len(lines) > 1 else []:
            panel.plot(line.cost, line.pearson, color=colour, alpha=0.25, linewidth=0.6)
        middle, style = median(lines), {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4}
        panel.plot(middle.cost, middle.pearson, **style)
        panel.plot(middle.cost, middle.rank, **style, linestyle=(0, (4, 2)), markerfacecolor="white")


def draw_agreement(results: Sequence[Result], parts: Sequence[str]) -> Any:
    kinds, names = kinds_in(results), estimators_in(results)
    wanted = [(result, part, what) for result in results for part in parts for what in QUANTITIES]
    cells = max(len(result.cells) for result in results)
    figure, axes = panels(len(wanted), len(kinds), max(2.9, 0.35 * cells), sharex=False)
    for row, (result, part, what) in zip(axes, wanted, strict=True):
        for panel, kind in zip(row, kinds, strict=True):
            draw_intervals(panel, result, kind, names, part, what)
        label = f"{result.label}\n" if len(results) > 1 else ""
        row[0].set_ylabel(f"{label}{part}: {what}\nwith long chains")
    finish(figure, axes, kinds, names, "")
    return figure


def draw_intervals(panel: Any, result: Result, kind: str, names: Sequence[str], part: str, what: str) -> None:
    """Cells side by side; within a cell estimators, and within an estimator components."""
    panel.axhline(1, color="grey", linewidth=0.8, linestyle="--")
    panel.set_ylim(LOW, HIGH)
    for position, (gamma, nbeta) in enumerate(result.cells):
        found = [
            (names.index(row["estimator"]), row[what])
            for record in result.records
            if (record["gamma"], record["nbeta"], record["kind"]) == (gamma, nbeta, kind)
            for row in record["agreement"]
            if row["part"] == part
        ]
        found.sort(key=lambda one: one[0])
        for place, (index, estimate) in zip(np.linspace(-0.3, 0.3, len(found) + 2)[1:-1], found, strict=True):
            draw_interval(panel, position + place, estimate, *STYLES[index])
    panel.set_xlim(-0.6, len(result.cells) - 0.4)
    panel.set_xticks(range(len(result.cells)), [f"γ {gamma:g}, nβ {nbeta:g}" for gamma, nbeta in result.cells])
    panel.tick_params(axis="x", labelrotation=90 if len(result.cells) > 2 else 0, labelsize="small")


def draw_interval(panel: Any, place: float, estimate: dict[str, float | None], colour: str, marker: str) -> None:
    low, high, bounded = ends(estimate)
    dots = {} if bounded else {"linestyle": ":", "alpha": 0.6}
    if low < high:
        panel.plot([place, place], [low, high], color=colour, linewidth=1.1, **dots)
    value = estimate["value"]
    if value is not None and LOW <= value <= HIGH:
        panel.plot([place], [value], color=colour, marker=marker, markersize=4)


def finish(figure: Any, axes: np.ndarray, kinds: Sequence[str], names: Sequence[str], below: str) -> None:
    from matplotlib.lines import Line2D

    for panel, kind in zip(axes[0], kinds, strict=True):
        panel.set_title(TITLES.get(kind, kind), fontsize="medium")
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, label=name)
        for name, (colour, marker) in zip(names, STYLES, strict=False)
    ]
    if below:
        figure.supxlabel(below, fontsize="medium")
        handles += [
            Line2D([], [], color="grey", label="Pearson"),
            Line2D([], [], color="grey", linestyle=(0, (4, 2)), label="rank"),
        ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize="small")


def save(figure: Any, path: Path) -> None:
    """The same results give the same bytes."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    dated = {"Date": None} if path.suffix == ".svg" else {}
    with matplotlib.rc_context({"svg.hashsalt": "balmer"}):
        figure.savefig(path, dpi=150, metadata=dated)
    print(path)


def draw(options: argparse.Namespace) -> None:
    results = [Result(*labelled(path)) for path in options.results]
    if len(estimators_in(results)) > len(STYLES):
        raise UserError(f"{len(estimators_in(results))} estimators, but only {len(STYLES)} styles to tell them apart")
    cells = [(gamma, nbeta) for gamma in options.gammas for nbeta in options.nbetas]
    save(draw_reliability(results, cells, options.parts), options.out)
    if any(record["agreement"] for result in results for record in result.records):
        save(draw_agreement(results, options.parts), options.out.with_stem(f"{options.out.stem}-agreement"))
    else:
        print("no agreement in these files: measure it with --reference-draws")


def labelled(path: Path) -> tuple[str, list[Record]]:
    options, records = read(path)
    return Path(options["model"]).name, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="a file ending in .svg, .png or .pdf")
    parser.add_argument("--gammas", type=float, nargs="+", default=[300.0])
    parser.add_argument("--nbetas", type=float, nargs="+", default=[30.0])
    parser.add_argument("--parts", nargs="+", choices=("covariance", "shift"), default=["covariance", "shift"])
    try:
        draw(parser.parse_args())
    except UserError as error:
        print(f"benchmarks.estimators.figure: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
