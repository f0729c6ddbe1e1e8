"""How well a label tells its cluster: computed from counts, against a trial that is really drawn."""

import numpy as np
import pytest

from cluster.report.detection import BigramCounter, mean_score, trial_score
from cluster.report.statistics import Label


def corpus(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Preceding, predicted, and whether a member: members are token 3 after token 1, mostly."""
    before, after = rng.integers(0, 8, 4000).astype(np.int32), rng.integers(0, 8, 4000).astype(np.int32)
    member = (after == 3) & (before == 1) & (rng.random(4000) < 0.9)
    return before, after, member | (rng.random(4000) < 0.002)


def label(targets: list[int], preceding: list[int]) -> Label:
    return Label(targets=targets, others=0, preceding=preceding, sources=[], covered=1.0)


def score(one: Label, before: np.ndarray, after: np.ndarray, member: np.ndarray) -> float | None:
    counter = BigramCounter(8)
    counter.update(before, after)
    return trial_score(one, after[member].astype(np.int64), before[member].astype(np.int64), counter.result())


def test_the_expected_score_is_that_of_a_drawn_trial() -> None:
    rng = np.random.default_rng(0)
    before, after, member = corpus(rng)
    one = label([3], [1])
    meant = (after == 3) & (before == 1)
    same, others = ~member & (after == 3), ~member
    drawn = 0.5 * meant[member].mean() + 0.25 * (~meant[same]).mean() + 0.25 * (~meant[others]).mean()
    assert score(one, before, after, member) == pytest.approx(drawn)
    assert drawn > 0.9


def test_a_label_that_says_less_is_worth_less() -> None:
    before, after, member = corpus(np.random.default_rng(1))
    right, token_alone, wrong = (
        score(label(*parts), before, after, member) for parts in (([3], [1]), ([3], []), ([5], []))
    )
    assert right is not None
    assert token_alone is not None
    assert wrong is not None
    assert right > token_alone > wrong
    assert wrong < 0.5


def test_counting_in_blocks_and_merging_changes_nothing() -> None:
    before, after, _ = corpus(np.random.default_rng(2))
    whole, cut, other = BigramCounter(8), BigramCounter(8), BigramCounter(8)
    whole.update(before, after)
    cut.update(before[:1000], after[:1000])
    other.update(before[1000:], after[1000:])
    cut.merge(other)
    assert (cut.result().counts == whole.result().counts).all()
    assert whole.result().matching([3, 4], [1]) == int((np.isin(after, [3, 4]) & (before == 1)).sum())
    assert whole.result().matching([3, 4], []) == int(np.isin(after, [3, 4]).sum())


def test_without_members_to_try_there_is_no_score() -> None:
    before, after, _ = corpus(np.random.default_rng(3))
    assert score(label([3], []), before, after, np.zeros(4000, bool)) is None
    assert mean_score([None, 0.5, 0.7]) == pytest.approx(0.6)
    assert mean_score([None, None]) is None
