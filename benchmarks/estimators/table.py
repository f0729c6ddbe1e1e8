"""The yardstick's records of one cell (γ, nβ) as a table to be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.estimators.measurement import WANTED
from benchmarks.estimators.records import Record

UNTOLD = "-"


def number(value: float | None, form: str) -> str:
    return UNTOLD if value is None else format(value, form)


def interval(estimate: dict[str, float | None]) -> str:
    low, high = (number(estimate[end], ".2f") for end in ("low", "high"))
    return f"{number(estimate['value'], '.2f')} ({low} to {high})"


def head(gamma: float, nbeta: float, width: int) -> list[str]:
    left = f"{'component':<{width}} {'part':<10} {'estimator':<17} {'tilt':>6} {'mean φ':>9}"
    right = f"{'draws':>5} {'r':>6} {'rank':>6} {'cost':>9} {f'for {WANTED}':>11}"
    known = "correlation and slope with long chains (their reliability)"
    return [f"γ {gamma:g}, nβ {nbeta:g}", f"{left} {right}  {known}"]


def agreement_of(record: Record, estimator: str, part: str) -> str:
    for one in record["agreement"]:
        if (one["estimator"], one["part"]) == (estimator, part):
            known = number(one["reference_reliability"], ".2f")
            return f"{interval(one['correlation'])}  {interval(one['slope'])}  ({known})"
    return ""


def row(record: Record, point: dict[str, Any], width: int) -> str:
    estimator, part = point["estimator"], point["part"]
    return (
        f"{record['component']:<{width}} {part:<10} {estimator:<17} {point['tilt']:6.2f} {point['mean_phi']:9.2g} "
        f"{point['draws']:5} {number(point['pearson'], '.3f'):>6} {number(point['rank'], '.3f'):>6} "
        f"{point['cost']:9,.0f} {number(point['cost_wanted'], ',.0f'):>11}  {agreement_of(record, estimator, part)}"
    ).rstrip()


def table(gamma: float, nbeta: float, records: Sequence[Record]) -> str:
    """Every estimator at the most draws; what failed, and why."""
    width = max(len(name) for name in ("component", *(record["component"] for record in records)))
    lines = head(gamma, nbeta, width)
    for record in records:
        most = max((point["draws"] for point in record["points"]), default=0)
        for part in ("covariance", "shift"):
            chosen = [one for one in record["points"] if (one["part"], one["draws"]) == (part, most)]
            lines += [row(record, point, width) for point in chosen]
        lines += [f"{record['component']:<{width}} {name}: {why}" for name, why in record["failures"].items()]
    return "\n".join(lines)
