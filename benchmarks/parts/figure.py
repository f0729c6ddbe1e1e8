"""Draws what `benchmarks.parts` has found: PCs, neighbours, known classes, leakage; a colour for each part."""

from __future__ import annotations

from typing import Any

from benchmarks.estimators.figure import STYLES, panels
from benchmarks.parts.inputs import NAMES

Record = dict[str, Any]
#: Colour and marker by part.
LOOKS = dict(zip(NAMES, (STYLES[1], STYLES[2], STYLES[0]), strict=True))
BAR = 0.26


def draw(record: Record) -> Any:
    figure, axes = panels(2, 2, 4.6, sharex=False, sharey=False)
    (components, targets), (classes, layers) = axes
    draw_components(components, record)
    draw_targets(targets, record)
    draw_classes(classes, record)
    draw_layers(layers, record)
    components.legend(frameon=False, fontsize="small")
    for panel in axes.ravel():
        panel.grid(alpha=0.3, linewidth=0.5)
        panel.set_axisbelow(True)
    return figure


def draw_components(panel: Any, record: Record) -> None:
    for name, (colour, marker) in LOOKS.items():
        values = record["parts"][name]["leading"]
        panel.plot(range(1, len(values) + 1), values, color=colour, marker=marker, markersize=4, label=name)
    panel.set(xlabel="principal component", ylabel="correlation of the halves", ylim=(min(0, *panel.get_ylim()), 1))


def draw_targets(panel: Any, record: Record) -> None:
    """All tokens and rare ones, across halves (filled) and within one (outlined); chance as a dotted line."""
    groups = [(which, how) for which in ("all", "rare") for how in ("across", "within")]
    for place, (name, (colour, _)) in enumerate(LOOKS.items()):
        for group, (which, how) in enumerate(groups):
            found = record["neighbours"]["targets"][name][which]
            if found is None:
                continue
            style = {"color": colour} if how == "across" else {"facecolor": "none", "edgecolor": colour}
            x, one, chance = group + (place - 1) * BAR, found[how], 100 * found["permuted"]
            panel.bar(x, 100 * one["value"], BAR * 0.9, **style)
            panel.plot([x, x], [100 * one["low"], 100 * one["high"]], color="grey", linewidth=1)
            panel.plot([x - BAR / 2, x + BAR / 2], [chance, chance], color="black", linewidth=0.8, linestyle=":")
    labels = ["across halves", "within one", "rare, across", "rare, within"]
    panel.set_xticks(range(len(labels)), labels, fontsize="small")
    panel.set_ylabel(f"{record['run']['k']} nearest: same target, %")


def draw_classes(panel: Any, record: Record) -> None:
    known = record["classes"]
    for place, (name, (colour, _)) in enumerate(LOOKS.items()):
        for row, one in enumerate(known):
            lift = one["lift"][name]
            if lift is not None:
                y = row + (place - 1) * BAR
                panel.barh(y, lift["value"], BAR * 0.9, color=colour)
                panel.plot([lift["low"], lift["high"]], [y, y], color="grey", linewidth=1)
    panel.axvline(1, color="black", linewidth=0.8, linestyle=":")
    panel.set_yticks(range(len(known)), [one["class"] for one in known], fontsize="small")
    panel.invert_yaxis()
    panel.set_xlabel("neighbours of the same class, times chance")


def draw_layers(panel: Any, record: Record) -> None:
    found = record["leakage"]
    numbers = [one["layer"] for one in found]
    for name, (colour, marker) in LOOKS.items():
        style = {"color": colour, "marker": marker, "markersize": 4}
        panel.plot(numbers, [one[name]["debiased"] for one in found], **style)
        corrected = [float("nan") if one[name]["corrected"] is None else one[name]["corrected"] for one in found]
        panel.plot(numbers, corrected, **style, linestyle=(0, (4, 2)), markerfacecolor="white")
    panel.set_xticks(numbers)
    panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]))
    panel.set(xlabel="tapped layer", ylabel="CKA with activations\n(dashed: noise taken off)")
