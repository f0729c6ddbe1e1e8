import numpy as np
import pytest

from eval.beside import Outcome, overlap, sentences, supported_more_often


def outcome(name, tested, supported, **changes):
    settings = {"clusters": 40, "median_size": 50.0, "clustered_share": 0.2, "overlap": 0.1, "told_apart": 0.9}
    return Outcome(name=name, tested=tested, supported=supported, **(settings | changes))


def test_a_control_that_does_as_well_is_said_to():
    run, equal, worse = outcome("run", 50, 40), outcome("gaussian", 50, 41), outcome("permuted", 50, 3)
    assert supported_more_often(run, worse) < 1e-6
    assert supported_more_often(run, equal) > 0.4
    judged = [Outcome(**{**vars(own), "p": supported_more_often(run, own)}) for own in (equal, worse)]
    said = sentences(run, judged)
    assert "supports 40 of 50" in said[0]
    assert "as well as the run" in said[1]
    assert "supported more often" in said[2]


def test_too_few_to_compare_and_other_tokens():
    said = sentences(outcome("run", 50, 40), [outcome("nbeta0", 0, 0, overlap=float("nan"))])
    assert "Too few" in said[1]
    assert "Jaccard" not in said[1]


def test_overlap_is_of_the_runs_clusters():
    run, control = np.array([0, 0, 1, 1, -1]), np.array([3, 3, 3, -1, -1])
    assert overlap(run, control) == pytest.approx((2 / 3 + 1 / 4) / 2)
    assert np.isnan(overlap(np.full(5, -1), control))
