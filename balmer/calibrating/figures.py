"""What the figures of a page have in common: colours, axes, and how a figure gets into the page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

#: Readable on white and on black.
COLOURS = ("#3f8ae0", "#2ca58d", "#d99a1c", "#e0653a", "#b063c5")


def axis(**more: Any) -> dict[str, Any]:
    return {"gridcolor": "rgba(128,128,128,.22)", "zerolinecolor": "rgba(128,128,128,.5)", "automargin": True, **more}


def layout(height: int, **more: Any) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    return {
        "paper_bgcolor": clear, "plot_bgcolor": clear, "height": height, "font": {"size": 12},
        "margin": {"l": 50, "r": 20, "t": 30, "b": 45}, "legend": {"bgcolor": clear, "orientation": "h", "y": -0.08},
        **more,
    }  # fmt: skip


def numbers(values: Sequence[float]) -> list[float | None]:
    """As JSON can say them."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]


def plot(identity: str, figure: Mapping[str, Any]) -> str:
    content = json.dumps(figure, ensure_ascii=False).replace("</", "<\\/")
    options = "{displaylogo: false, responsive: true}"
    draw = f"Plotly.newPlot('{identity}', figure.data, figure.layout, {options});"
    return f'<div id="{identity}"></div><script>{{ const figure = {content}; {draw} }}</script>'


def section(title: str, note: str, content: str) -> str:
    return f"<h2>{title}</h2><p>{note}</p>{content}"
