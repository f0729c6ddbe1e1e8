"""The yardstick's figures: what is drawn is what was measured, and every estimator can be told from the others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.estimators.figure import (
    HIGH,
    LOW,
    STYLES,
    Result,
    draw_agreement,
    draw_reliability,
    ends,
    kinds_in,
    lines_of,
    main,
    median,
)
from scale.errors import UserError

ESTIMATORS = ("plain", "gaussian-gradient")


def record(component: str, kind: str, pearson: float, nbeta: float = 30.0) -> dict[str, Any]:
    rows = [
        {
            "estimator": name,
            "part": part,
            "draws": draws,
            "cost": 100.0 * draws,
            "pearson": pearson,
            "rank": pearson / 2,
        }
        for name in ESTIMATORS
        for part in ("covariance", "shift")
        for draws in (4, 2)
    ]
    estimate = {"value": 1.1, "low": 0.9, "high": 1.3}
    agreement = [
        {"estimator": name, "part": "covariance", "correlation": estimate, "slope": estimate} for name in ESTIMATORS
    ]
    cell = {"gamma": 300.0, "nbeta": nbeta, "component": component, "kind": kind}
    return {**cell, "points": rows, "agreement": agreement, "failures": {}}


RECORDS = [record("l0h0", "head", 0.2), record("l0h1", "head", 0.6), record("embed", "embed", 0.9)]


def test_the_line_of_a_kind_is_the_median_of_its_components_in_order_of_draws() -> None:
    lines = lines_of(RECORDS[:2], "plain", "shift")
    assert [line.pearson.tolist() for line in lines] == [[0.2, 0.2], [0.6, 0.6]]
    middle = median(lines)
    np.testing.assert_allclose(middle.cost, [200.0, 400.0])
    np.testing.assert_allclose(middle.pearson, 0.4)
    np.testing.assert_allclose(middle.rank, 0.2)
    assert len(median([]).cost) == 0


def test_what_has_no_end_goes_from_edge_to_edge_and_is_marked() -> None:
    assert ends({"value": None, "low": None, "high": None}) == (LOW, HIGH, False)
    assert ends({"value": 1.0, "low": 0.5, "high": 1.5}) == (0.5, 1.5, True)
    assert ends({"value": 1.0, "low": -9.0, "high": 9.0}) == (LOW, HIGH, True)


def test_a_panel_holds_what_was_measured_pearson_solid_and_rank_dashed() -> None:
    results = [Result("demo", RECORDS)]
    assert kinds_in(results) == ["head", "embed"]
    figure = draw_reliability(results, [(300.0, 30.0)], ["covariance"])
    heads, embedding = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["heads", "embedding"]
    assert embedding.get_xscale() == "log"
    solid, dashed = embedding.get_lines()[:2]
    assert (solid.get_ydata().tolist(), dashed.get_ydata().tolist()) == ([0.9, 0.9], [0.45, 0.45])
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert len(heads.get_lines()) == 2 * (2 + 2)  # two components beside their median
    markers = {line.get_marker() for line in embedding.get_lines()}
    assert len(markers) == len(ESTIMATORS)


def test_intervals_of_all_cells_stand_side_by_side() -> None:
    results = [Result("demo", [*RECORDS, record("l0h0", "head", 0.5, nbeta=10.0)])]
    figure = draw_agreement(results, ["covariance"])
    heads = figure.axes[0]
    assert [label.get_text() for label in heads.get_xticklabels()] == ["γ 300, nβ 10", "γ 300, nβ 30"]
    bars = [line for line in heads.get_lines() if line.get_ydata()[:1] == [0.9]]
    places = [float(line.get_xdata()[0]) for line in bars]
    assert len(set(places)) == len(ESTIMATORS) * 3
    assert sum(place < 0.5 for place in places) == len(ESTIMATORS)


def test_estimators_differ_in_lightness_and_in_marker() -> None:
    """So that they are told apart in black and white too."""
    assert len({marker for _, marker in STYLES}) == len(STYLES)
    shares = np.array([0.299, 0.587, 0.114])
    lightness = [shares @ [int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour, _ in STYLES[:3]]
    assert np.abs(np.diff(sorted(lightness))).min() > 30


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    lines = [{"options": {"model": "demo"}}, *RECORDS]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_command_draws_both_figures_the_same_every_time(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    for name in ("one", "two"):
        out = tmp_path / name / "estimators.svg"
        monkeypatch.setattr("sys.argv", ["estimators_figure", str(results), "--out", str(out)])
        main()
        drawn.append([path.read_bytes() for path in (out, out.with_stem("estimators-agreement"))])
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_a_cell_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="no such cell"):
        draw_reliability([Result("demo", RECORDS)], [(1.0, 1.0)], ["shift"])
