"""What the leakage measurements allow one to say, in one sentence. Rows in, words out.

Leakage: the auxiliary model reads activations, so its prediction may resemble them more than the susceptibilities it
stands for do. Similarity to the activations is measured for the prediction and for the ground truth, layer by layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

NAMES = {"cka": "CKA", "jaccard": "Jaccard"}


@dataclass(frozen=True)
class Verdict:
    """`status` is "missing", "untested" (no intervals), "visible" or "not visible"."""

    status: str
    sentence: str


@dataclass(frozen=True)
class _Comparison:
    """One metric: the layers with intervals, how many have the prediction's above the truth's, and the widest gap."""

    metric: str
    layers: int
    above: int
    prediction: Row
    truth: Row
    permuted: Row | None

    def __str__(self) -> str:
        where = f"{NAMES[self.metric]} at {self.above} of {self.layers} layers, the widest gap at layer "
        numbers = f"{self.prediction['layer']}: {_interval(self.prediction)} against {_interval(self.truth)}"
        control = "" if self.permuted is None else f", control {self.permuted['value']:.3f}"
        return where + numbers + control


def leakage_verdict(rows: Sequence[Row] | None) -> Verdict:
    """Rows of layer, metric, versus (truth, prediction, permuted), value, low, high."""
    if not rows:
        return Verdict("missing", "Leakage was not measured in this run, so it cannot be ruled out.")
    found = [comparison for metric in NAMES if (comparison := _compare(metric, rows)) is not None]
    if not found:
        return Verdict("untested", "Leakage was measured without intervals for both sides, so there is no verdict.")
    parts = "; ".join(map(str, found))
    if any(comparison.above for comparison in found):
        return Verdict(
            "visible",
            "Leakage is visible: the prediction lies closer to the activations than the ground truth does, intervals "
            f"apart, by {parts}. Noise in the ground truth can account for part of such a gap.",
        )
    return Verdict(
        "not visible",
        "No leakage is visible: nowhere does the prediction lie closer to the activations than the ground truth with "
        f"intervals apart ({parts}). This bounds leakage to the width of the intervals, no further.",
    )


def _compare(metric: str, rows: Sequence[Row]) -> _Comparison | None:
    by_side = {
        side: {row["layer"]: row for row in rows if row["metric"] == metric and row["versus"] == side}
        for side in ("truth", "prediction", "permuted")
    }
    truth, prediction = by_side["truth"], by_side["prediction"]
    tested = [
        layer for layer in truth if layer in prediction and _bounded(truth[layer]) and _bounded(prediction[layer])
    ]
    if not tested:
        return None
    widest = max(tested, key=lambda layer: (prediction[layer]["value"] - truth[layer]["value"], -layer))
    above = sum(prediction[layer]["low"] > truth[layer]["high"] for layer in tested)
    return _Comparison(metric, len(tested), above, prediction[widest], truth[widest], by_side["permuted"].get(widest))


def _bounded(row: Row) -> bool:
    return all(row[key] is not None for key in ("value", "low", "high"))


def _interval(row: Row) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
