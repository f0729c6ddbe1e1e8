from typing import Any

import pytest

from cluster.report.verdict import leakage_verdict


def rows(truth: float, prediction: float, width: float | None = 0.01, metric: str = "cka") -> list[dict[str, Any]]:
    values = {"truth": truth, "prediction": prediction, "permuted": 0.005}
    return [
        {
            "layer": layer,
            "metric": metric,
            "versus": versus,
            "value": value + 0.01 * layer * (versus == "prediction"),
            "low": None if width is None else value - width,
            "high": None if width is None else value + width,
        }
        for layer in (2, 4, 6)
        for versus, value in values.items()
    ]


def test_a_prediction_above_the_truth_with_intervals_apart_is_visible_leakage() -> None:
    verdict = leakage_verdict(rows(0.15, 0.27))
    assert verdict.status == "visible"
    assert "CKA at 3 of 3 layers" in verdict.sentence
    assert "layer 6: 0.330 [0.260, 0.280] against 0.150 [0.140, 0.160], control 0.005" in verdict.sentence


def test_overlapping_intervals_are_not_called_leakage() -> None:
    verdict = leakage_verdict(rows(0.15, 0.16, width=0.05))
    assert verdict.status == "not visible"
    assert "CKA at 0 of 3 layers" in verdict.sentence


def test_a_prediction_below_the_truth_is_not_called_leakage() -> None:
    assert leakage_verdict(rows(0.27, 0.15)).status == "not visible"


def test_one_metric_is_enough() -> None:
    verdict = leakage_verdict(rows(0.15, 0.15) + rows(0.05, 0.19, metric="jaccard"))
    assert verdict.status == "visible"
    assert "CKA at 0 of 3 layers" in verdict.sentence
    assert "Jaccard at 3 of 3 layers" in verdict.sentence


@pytest.mark.parametrize("nothing", [None, []])
def test_no_measurement_is_no_acquittal(nothing: list[dict[str, Any]] | None) -> None:
    verdict = leakage_verdict(nothing)
    assert verdict.status == "missing"
    assert "cannot be ruled out" in verdict.sentence


def test_values_without_intervals_give_no_verdict() -> None:
    assert leakage_verdict(rows(0.15, 0.27, width=None)).status == "untested"
