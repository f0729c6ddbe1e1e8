"""What the figures on leakage allow one to say, in one sentence per kind of input. Rows in, words out.

What counts is the gap between prediction and noiseless truth by debiased CKA: a gap that noise in the ground truth
explains is none. The Jaccard index cannot be freed of noise; its gap is told beside it, with that said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.inputs import NO_LAYER
from eval.leakage import GAP, GAP_NOISELESS, NOISELESS

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """`status` is "visible", "not visible" or, where the two halves of the draws share nothing, "unmeasurable"."""

    status: str
    sentence: str


def verdicts(rows: Sequence[Row]) -> dict[str, Verdict]:
    """One for each kind of input."""
    return {name: _verdict(name, [row for row in rows if row["input"] == name]) for name in _names(rows)}


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["input"] for row in rows))


def _verdict(name: str, rows: Sequence[Row]) -> Verdict:
    neighbours = _neighbours(rows)
    gaps = [row for row in rows if row["metric"] == "debiased cka" and row["versus"] == GAP_NOISELESS]
    if not gaps:
        sentence = f"Whether {name} leak into predictions cannot be told: the two halves of the draws share no signal."
        return Verdict("unmeasurable", f"{sentence} {neighbours}")
    widest = max(gaps, key=lambda row: row["value"])
    above = sum(row["low"] > 0 for row in gaps)
    figures = " against ".join(_value(rows, widest["layer"], versus) for versus in ("prediction", NOISELESS))
    gap = f"{_signed(widest['value'])} [{_signed(widest['low'])}, {_signed(widest['high'])}]{_at(widest['layer'])}"
    if above:
        where = f" at {above} of {len(gaps)} layers" if len(gaps) > 1 else ""
        said = f"Predictions lie closer to {name} than noiseless ground truth would{where}: CKA {figures}, gap {gap}."
        return Verdict("visible", f"{said} {neighbours}")
    said = f"Predictions lie no closer to {name} than noiseless ground truth would: CKA {figures}, widest gap {gap}."
    return Verdict("not visible", f"{said} {neighbours}")


def _neighbours(rows: Sequence[Row]) -> str:
    gaps = [row for row in rows if row["metric"] == "jaccard" and row["versus"] == GAP]
    widest = max(gaps, key=lambda row: row["value"])
    figures = " against ".join(
        _value(rows, widest["layer"], versus, metric="jaccard") for versus in ("prediction", "truth", "permuted")
    )
    gap = f"{_signed(widest['value'])} [{_signed(widest['low'])}, {_signed(widest['high'])}]{_at(widest['layer'])}"
    return (
        f"Shared neighbours (Jaccard; prediction, truth, permuted): {figures}; gap {gap}, part of which is noise in "
        "the truth."
    )


def _value(rows: Sequence[Row], layer: int, versus: str, metric: str = "debiased cka") -> str:
    found = next(r for r in rows if (r["layer"], r["versus"], r["metric"]) == (layer, versus, metric))
    return f"{found['value']:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _at(layer: int) -> str:
    return "" if layer == NO_LAYER else f" at layer {layer}"
