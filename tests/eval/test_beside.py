import numpy as np
import polars as pl
import pytest

from eval.beside import Outcome, judgement, overlap, rows, sentences, supported_more_often, verdict


def outcome(name, tested, supported, **changes):
    settings = {"clusters": 40, "median_size": 50.0, "largest_size": 90.0, "clustered_share": 0.2, "overlap": 0.1,
                "told_apart": 0.9}  # fmt: skip
    return Outcome(name=name, tested=tested, supported=supported, **(settings | changes))


def judged(run, *controls):
    return [Outcome(**{**vars(own), "p": supported_more_often(run, own)}) for own in controls]


def test_a_control_that_does_as_well_is_said_to():
    run, equal, worse = outcome("run", 50, 40), outcome("gaussian", 50, 41), outcome("permuted", 50, 3)
    assert supported_more_often(run, worse) < 1e-6
    assert supported_more_often(run, equal) > 0.4
    controls = judged(run, equal, worse)
    said = sentences(run, controls)
    assert "supports 40 of 50" in said[0]
    assert "as well as the run" in said[1]
    assert "owe anything to the directions that were drawn" in said[1]
    assert "supported less often than the run's" in said[2]
    assert [verdict(run, own) for own in controls] == ["as well", "worse"]


def test_too_few_to_compare_and_other_tokens():
    run = outcome("run", 50, 40)
    said = sentences(run, [outcome("nbeta0", 0, 0, overlap=float("nan"))])
    assert "Too few" in said[1]
    assert "Jaccard" not in said[1]
    assert verdict(run, outcome("nbeta0", 0, 0)) == "untested"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"clusters": 40}, "number of clusters is"),
        ({"clusters": 41, "clustered_share": 0.2}, "number of clusters and share of tokens in clusters are"),
        ({"told_apart": 0.95}, "rate of clusters told apart is"),
    ],
)
def test_a_figure_that_the_control_reaches_is_no_evidence(changes, named):
    less = {"clusters": 39, "clustered_share": 0.1, "told_apart": 0.1}
    run = outcome("run", 50, 40)
    said = judgement(run, *judged(run, outcome("permuted", 50, 3, **(less | changes))))
    assert said.endswith(f"The run's {named} no evidence: the control has as much, or more.")
    assert "no evidence" not in judgement(run, *judged(run, outcome("permuted", 50, 3, **less)))
    nothing = less | {"clusters": 0, "clustered_share": 0.0, "told_apart": float("nan")}
    empty = outcome("run", 0, 0, clusters=0, clustered_share=0.0)
    assert "no evidence" not in judgement(empty, *judged(empty, outcome("permuted", 0, 0, **nothing)))


def test_the_table_has_the_figures_and_the_words():
    run = outcome("run", 50, 40)
    controls = judged(run, outcome("permuted", 50, 3), outcome("activations", 0, 0))
    table = pl.DataFrame(rows(run, controls), infer_schema_length=None)
    assert table["name"].to_list() == ["run", "permuted", "activations"]
    assert table["verdict"].to_list() == [None, "worse", "untested"]
    assert table["supported_share"].fill_nan(None).to_list() == [0.8, 0.06, None]
    assert table["sentence"].to_list() == [None, *(judgement(run, own) for own in controls)]


def test_overlap_is_of_the_runs_clusters():
    run, control = np.array([0, 0, 1, 1, -1]), np.array([3, 3, 3, -1, -1])
    assert overlap(run, control) == pytest.approx((2 / 3 + 1 / 4) / 2)
    assert np.isnan(overlap(np.full(5, -1), control))
