"""The part of a calibration's page that is about estimators: a table, and reliability against cost."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from balmer.calibrating.allocation_words import Allocation, bought_line, ends, millions, name_of
from balmer.calibrating.figures import COLOURS, axis, layout, numbers, plot, section
from scale.calibrate.allocation import FEWEST_DRAWS, PUBLISHED, Agreement, Candidate, Plan, plan_with
from scale.config import CalibrateConfig

#: Curves go up to the draws that this reliability takes.
HIGHEST, POINTS = 0.97, 40
FAINT = 0.35
NOTE = """Median reliability of the columns against what the run as a whole would cost, in forward passes of a token
through the whole model: by Spearman and Brown from the trial, with an interval of 95 %. Dotted: the upper end, where
the agreement of the trial cannot be told from zero. Faint: refused, because its posterior is another."""
HEAD = ("estimator", "draws a document", "in store", "token passes", "half draws", "correlation", "largest tilt", "")


def curve(one: Candidate, agreement: Agreement, config: CalibrateConfig, allocation: Allocation) -> list[Plan]:
    most = max(4 * FEWEST_DRAWS, agreement.needed(HIGHEST))
    draws = np.geomspace(FEWEST_DRAWS, most, POINTS)
    return [plan_with(float(count), agreement, one.settings, config, allocation.work) for count in draws]


def pale(colour: str) -> str:
    """A colour given as #rrggbb, nearly transparent."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},.16)"


def lines_of(one: Candidate, place: int, config: CalibrateConfig, allocation: Allocation) -> list[dict[str, Any]]:
    """The curve of one candidate and its band; nothing if nothing was measured."""
    if one.agreement is None:
        return []
    plans, told = curve(one, one.agreement, config, allocation), one.agreement.told
    colour, opacity = COLOURS[place % len(COLOURS)], FAINT if one.refused else 1.0
    x = numbers([plan.cost / 1e6 for plan in plans])
    value, low, high = (numbers([plan.reliability[end] for plan in plans]) for end in range(3))
    common = {"type": "scatter", "mode": "lines", "x": x, "opacity": opacity, "legendgroup": str(place)}
    edge = {**common, "line": {"color": colour, "width": 0}, "showlegend": False, "hoverinfo": "skip"}
    fill = {"fill": "tonexty", "fillcolor": pale(colour)}
    band = [{**edge, "y": low}, {**edge, "y": high, **fill}] if told and not one.refused else []
    width, least = 2.6 if one is allocation.chosen else 1.6, "" if told else "at most "
    main = {
        **common, "y": value if told else high, "name": name_of(one),
        "line": {"color": colour, "width": width, "dash": "solid" if told else "dot"},
        "hovertemplate": f"{name_of(one)}<br>%{{x:.3g}} million passes: {least}%{{y:.2f}}<extra></extra>",
    }  # fmt: skip
    return [*band, main]


def points(allocation: Allocation) -> list[dict[str, Any]]:
    """The plan that is chosen, and the published setting."""
    found, chosen, bought = [], allocation.chosen, allocation.published
    if chosen is not None and chosen.plan is not None:
        found.append(point("chosen", chosen.plan.cost, chosen.plan.reliability, "circle", False))
    if bought is not None:
        label = f"published {PUBLISHED['chains']} x {PUBLISHED['draws']}"
        found.append(point(label, bought.cost, bought.reliability, "diamond", bought.bound))
    return found


def point(label: str, cost: float, ends: Sequence[float], symbol: str, bound: bool) -> dict[str, Any]:
    value, low, high = ends
    height = high if bound else value
    reach = {"type": "data", "symmetric": False, "array": [high - height], "arrayminus": [height - low], "width": 4}
    said = f"at most {height:.2f}" if bound else f"{height:.2f}"
    return {
        "type": "scatter", "mode": "markers", "name": label, "x": numbers([cost / 1e6]), "y": numbers([height]),
        "error_y": reach | {"color": "#8a9097"}, "marker": {"symbol": symbol, "size": 11, "color": "#8a9097"},
        "hovertemplate": f"{label}<br>%{{x:.3g}} million passes: {said}<extra></extra>",
    }  # fmt: skip


def figure(allocation: Allocation, config: CalibrateConfig) -> dict[str, Any]:
    data = [
        trace for place, one in enumerate(allocation.candidates) for trace in lines_of(one, place, config, allocation)
    ]
    target = {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": allocation.target, "y1": allocation.target,
        "line": {"color": "#8a9097", "width": 1, "dash": "dash"},
    }  # fmt: skip
    across = axis(title={"text": "million token passes"}, type="log", dtick="D2")
    up = axis(title={"text": "median reliability"}, range=[0, 1.03])
    place = {"xaxis": across, "yaxis": up, "shapes": [target]}
    legend = {"bgcolor": "rgba(0,0,0,0)", "orientation": "h", "y": -0.25}
    return {"data": [*data, *points(allocation)], "layout": layout(380, **place) | {"legend": legend}}


def cells(one: Candidate) -> list[str]:
    plan, agreement = one.plan, one.agreement
    if plan is None or agreement is None:
        taken = ["–"] * 5
    else:
        least = "≥ " if plan.bound else ""
        seen = f"{agreement.value:.2f} ({ends(agreement.low, agreement.high)})"
        stored = f"{least}{plan.settings.chains} x {plan.settings.draws:,}"
        taken = [
            f"{least}{plan.draws_per_document:,}", stored, f"{least}{millions(plan.cost)}", str(agreement.draws), seen
        ]  # fmt: skip
    tilt = max(one.tilts.items(), key=lambda item: item[1], default=None)
    return [name_of(one), *taken, f"{tilt[0]} {tilt[1]:.2g}" if tilt else "–"]


def row(one: Candidate, allocation: Allocation) -> str:
    chosen = one is allocation.chosen
    *first, last = cells(one)
    tilt = f'<td class="{"bad" if one.refused and one.tilts else ""}">{escape(last)}</td>'
    verdict = "chosen" if chosen else "refused" if one.refused else ""
    found = "".join(f"<td>{escape(cell)}</td>" for cell in first) + tilt
    return f'<tr class="{"chosen" if chosen else ""}">{found}<td title="{escape(one.refused)}">{verdict}</td></tr>'


def estimator_table(allocation: Allocation) -> str:
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    body = "".join(row(one, allocation) for one in allocation.candidates)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def allocation_section(allocation: Allocation, config: CalibrateConfig) -> str:
    title = f"Estimators of the {'covariance' if allocation.part == 'covariance' else 'two-chain χ'}"
    words = f"<p>The {escape(bought_line(allocation.published))}.</p>"
    content = estimator_table(allocation) + words + plot("allocation", figure(allocation, config))
    return section(title, NOTE, content)
