"""The figure of a calibration: one HTML file with everything inside, readable in a light and a dark browser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from balmer.calibrating.allocation_page import allocation_section
from balmer.calibrating.allocation_words import Allocation
from balmer.calibrating.figures import COLOURS, axis, layout, numbers, plot, section
from scale.calibrate.criteria import CRITERIA, Observed
from scale.calibrate.recommend import Outcome
from scale.config import CalibrateConfig

Tried = tuple[Outcome, Mapping[str, Observed]]
#: The first sweep takes colours by ε, the second by γ.
DASHES = ("dot", "solid", "dash", "dashdot", "longdash")
#: A trace's panel reaches this far above the highest chain that stayed.
HEADROOM = 1.15
COLUMNS, PANEL = 3, 190

TITLES = {
    "stays": "highest rise, nats",
    "rises": "lowest chain, nats",
    "flattens": "drift / rise",
    "agrees": "R-hat",
    "smooth": "jump / typical",
    "signal": "rise / error",
    "local": "rise / gain",
    "unbiased": "step bias",
}
STYLE = """
:root { --paper: #fcfcfa; --ink: #1c2026; --soft: #59616c; --rule: #d9d9d3; --bad: #b3370f; --good: #24663c;
  --tint: #eef3fa; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181d; --ink: #e1e4e8; --soft: #9aa3af; --rule: #333a44;
  --bad: #f0914a; --good: #7fc796; --tint: #1d2733; } }
body { margin: 0 auto; max-width: 1180px; padding: 20px; background: var(--paper); color: var(--ink);
  font: 14px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1 { font-size: 21px; } h2 { font-size: 15px; margin: 28px 0 6px; } p { max-width: 80ch; color: var(--soft); }
pre { background: var(--tint); padding: 12px 14px; white-space: pre-wrap; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { text-align: right; padding: 3px 9px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; } th small { display: block; font-weight: 400; color: var(--soft); }
td.bad { color: var(--bad); font-weight: 600; } td.good { color: var(--good); } tr.chosen { background: var(--tint); }
.infolayer text, .cartesianlayer text { fill: var(--ink) !important; }
"""


def label(outcome: Outcome) -> str:
    s = outcome.settings
    return f"ε {s.step_size:g}  nβ {s.nbeta:g}  γ {s.localization:g}"


def places(outcomes: Sequence[Outcome], key: str) -> dict[float, int]:
    """Every value of a setting to its rank."""
    values = sorted({getattr(outcome.settings, key) for outcome in outcomes})
    return {value: index for index, value in enumerate(values)}


def line_style(outcome: Outcome, among: Sequence[Outcome], chosen: Outcome | None) -> dict[str, Any]:
    """Colour by what is swept, dash by nβ, weight by whether it is the one."""
    swept = "step_size" if outcome.sweep == "step" else "localization"
    colour = COLOURS[places(among, swept)[getattr(outcome.settings, swept)] % len(COLOURS)]
    dash = DASHES[places(among, "nbeta")[outcome.settings.nbeta] % len(DASHES)] if outcome.sweep == "grid" else "solid"
    return {"color": colour, "dash": dash, "width": 2.6 if outcome is chosen else 1.3}


def cost_figure(outcomes: Sequence[Outcome], chosen: Outcome | None, target: float) -> dict[str, Any]:
    """What a χ of the target's reliability would cost at every setting that was measured."""
    known = [outcome for outcome in reversed(outcomes) if math.isfinite(outcome.cost_to(target))]

    def colour(outcome: Outcome) -> str:
        return COLOURS[0] if outcome is chosen else "#8a9097" if outcome.passes else "rgba(138,144,151,.35)"

    bars = {
        "type": "bar", "orientation": "h", "y": [label(o) for o in known],
        "x": numbers([o.cost_to(target) / 1e6 for o in known]), "marker": {"color": [colour(o) for o in known]},
        "text": [f"{o.median('reliability'):.2f}{mark(o, chosen)}" for o in known], "textposition": "outside",
        "cliponaxis": False, "hovertemplate": "%{y}<br>%{x:.2f} million token passes<extra></extra>",
    }  # fmt: skip
    margin = {"l": 50, "r": 190, "t": 10, "b": 45}
    place = {"xaxis": axis(title={"text": "million token passes"}, rangemode="tozero"), "yaxis": axis()}
    return {"data": [bars], "layout": layout(90 + 26 * len(known), margin=margin, showlegend=False, **place)}


def mark(outcome: Outcome, chosen: Outcome | None) -> str:
    if outcome is chosen:
        return "  recommended"
    return "" if outcome.passes else f"  fails: {', '.join(outcome.failed)}"


def trace_figure(tried: Sequence[Tried], trained: float, chosen: Outcome | None, spacing: int) -> dict[str, Any]:
    """L at the draws above the trained weights, a panel for every component, a line for every chain."""
    outcomes, names = [outcome for outcome, _ in tried], list(tried[0][1])
    lines = [
        chain_line(observed[name].loss[chain] - trained, spacing, place, outcome, place == chain == 0)
        | {"line": line_style(outcome, outcomes, chosen), "opacity": 1 if outcome.passes else 0.45}
        for place, name in enumerate(names)
        for outcome, observed in tried
        for chain in range(len(observed[name].loss))
    ]
    height = 110 + PANEL * -(-len(names) // COLUMNS)
    return {"data": lines, "layout": layout(height, **panels(tried, names, trained))}


def suffix(place: int) -> str:
    return "" if place == 0 else str(place + 1)


def chain_line(phi: Any, spacing: int, place: int, outcome: Outcome, legend: bool) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "name": label(outcome), "legendgroup": label(outcome), "showlegend": legend,
        "x": [0, *(spacing * (index + 1) for index in range(len(phi)))], "y": [0, *numbers(phi)],
        "xaxis": f"x{suffix(place)}", "yaxis": f"y{suffix(place)}", "hovertemplate": "step %{x}: %{y:.3g} nats",
    }  # fmt: skip


def panels(tried: Sequence[Tried], names: Sequence[str], trained: float) -> dict[str, Any]:
    """Axes and titles of a grid of panels, filled row by row."""
    rows = -(-len(names) // COLUMNS)
    found: dict[str, Any] = {"annotations": []}
    for place, name in enumerate(names):
        row, column = divmod(place, COLUMNS)
        across = [(column + 0.07) / COLUMNS, (column + 0.97) / COLUMNS]
        up = [1 - (row + 0.86) / rows, 1 - (row + 0.14) / rows]
        found[f"xaxis{suffix(place)}"] = axis(domain=across, anchor=f"y{suffix(place)}")
        found[f"yaxis{suffix(place)}"] = axis(domain=up, anchor=f"x{suffix(place)}", range=span(tried, name, trained))
        found["annotations"].append(
            {"text": f"<b>{escape(name)}</b>", "x": across[0], "y": up[1], "xref": "paper", "yref": "paper",
             "xanchor": "left", "yanchor": "bottom", "showarrow": False}
        )  # fmt: skip
    return found


def span(tried: Sequence[Tried], name: str, trained: float) -> list[float] | None:
    """What a panel shows: chains that diverged leave it, the others do not."""
    stayed = [observed[name].loss - trained for outcome, observed in tried if not outcome.failed["stays"]]
    if not stayed:
        return None
    low, high = min(0.0, *(float(phi.min()) for phi in stayed)), max(float(phi.max()) for phi in stayed)
    room = (HEADROOM - 1) * max(high - low, 1e-12)
    return [low - room, high + room]


def criteria_table(outcomes: Sequence[Outcome], chosen: Outcome | None) -> str:
    """Every setting with the worst component of every criterion."""
    head = "".join(f"<th>{name}<small>{TITLES[name]}</small></th>" for name in CRITERIA)
    body = "".join(
        f'<tr class="{"chosen" if o is chosen else ""}"><td>{label(o)}</td>'
        + "".join(cell(o, name) for name in CRITERIA)
        + f"<td>{o.median('reliability'):.2f}</td><td>{o.median('reliability_covariance'):.2f}</td></tr>"
        for o in outcomes
    )
    extra = "<th>χ<small>median reliability</small></th><th>covariance<small>alone</small></th>"
    return f'<div class="wide"><table><tr><th>setting</th>{head}{extra}</tr>{body}</table></div>'


def cell(outcome: Outcome, name: str) -> str:
    failed = outcome.failed[name]
    if failed:
        judgement = outcome.worst(name)
        value, title = judgement.verdicts[name].value, f"{judgement.component}; {failed} components fail"
        return f'<td class="bad" title="{escape(title)}">{value:.2g} ✗{failed}</td>'
    value = outcome.extreme(name)
    return "<td>–</td>" if math.isnan(value) else f'<td class="good">{value:.2g}</td>'


COST_NOTE = """Forward passes of a token through the whole model, over all components tried, for the probe tokens.
Beside each bar the median split-half reliability that was measured; pale bars fail a criterion."""
TABLE_NOTE = """The worst component of every setting; ✗ counts the components that fail, and the one that is shown is
named when the pointer rests on it."""
TRACE_NOTE = """L at the draws above the trained weights, in nats, by step; a line for every chain, faint where a
criterion fails. A click in the legend hides a setting."""
TRACES = {"step": "Traces over ε, from small to too large", "grid": "Traces over nβ (dashes) and γ (colours)"}


def page(
    tried: Sequence[Tried],
    trained: float,
    chosen: Outcome | None,
    allocation: Allocation | None,
    summary: str,
    config: CalibrateConfig,
) -> str:
    from plotly.offline import get_plotlyjs

    outcomes, target = [outcome for outcome, _ in tried], config.target_reliability
    costs = plot("cost", cost_figure(outcomes, chosen, target))
    parts = [
        f"<h1>Calibration of the sampler</h1><pre>{escape(summary)}</pre>",
        *([allocation_section(allocation, config)] if allocation else []),
        section(f"What a χ of reliability {target:g} costs with plain", COST_NOTE, costs),
        section("Every criterion", TABLE_NOTE, criteria_table(outcomes, chosen)),
    ]
    for sweep, title in TRACES.items():
        some = [(outcome, observed) for outcome, observed in tried if outcome.sweep == sweep]
        if some:
            figure = trace_figure(some, trained, chosen, config.steps_between_draws)
            parts.append(section(title, TRACE_NOTE, plot(sweep, figure)))
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Calibration</title>'
    head += f"<style>{STYLE}</style><script>{get_plotlyjs()}</script>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
