from typing import Any

from cluster.report.headline import findings, name_cluster, visible
from cluster.report.verdict import Verdict


def test_text_for_a_terminal_shows_white_space_and_cannot_act() -> None:
    shown = visible("\n    if\t\x1b[31m\x00\u202e\u2028é🎉")
    assert shown == "⏎····if⇥\\u{1b}[31m\\u{0}\\u{202e}\\u{2028}é🎉"
    assert all(character.isprintable() for character in shown)


def test_a_cluster_is_named_by_its_tokens() -> None:
    assert name_cluster([" self", "cls"], ["("], 0) == "`·self` or `cls` after `(`"
    assert name_cluster(["x"], [], 0) == "`x`"
    assert name_cluster(["x"], ["y"], 7) == "`x` or 7 others after `y`"


def test_an_expectation_too_small_to_be_told_is_not_spelt_out() -> None:
    overview: dict[str, Any] = {
        "clusters": {"count": 3, "expected_false": 1.6e-8, "clustered_share": 0.25},
        "run": {"clustered_rows": 400},
        "accuracy": None,
        "support": {"tested": 0},
        "components": None,
    }
    found = dict(findings(overview, Verdict("missing", "Leakage was not measured.")))
    assert found["Clusters"].endswith("of 400 tokens; structureless data of the same size would give fewer than 0.001.")
    overview["clusters"]["expected_false"] = 0.25
    assert "would give about 0.25." in dict(findings(overview, Verdict("missing", "")))["Clusters"]


def test_excluded_chains_and_equal_tokens_are_told_of_if_there_are_any() -> None:
    overview: dict[str, Any] = {
        "clusters": {"count": 3, "expected_false": None, "clustered_share": None},
        "run": {"clustered_rows": 400},
        "accuracy": None,
        "support": {"tested": 0},
        "components": {"excluded_chains": 0, "duplicates": 0},
    }
    assert {"Chains", "Duplicates"}.isdisjoint(dict(findings(overview, Verdict("missing", ""))))
    overview["components"] = {"excluded_chains": 1, "duplicates": 46}
    found = dict(findings(overview, Verdict("missing", "")))
    assert found["Chains"] == "1 chain excluded from the ground truth."
    assert found["Duplicates"] == "46 measured tokens with the very vector of another: the same text, measured twice."
