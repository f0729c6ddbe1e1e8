import math

import numpy as np
import pytest

from cluster.report.statistics import Shared, choose_shown, describe, log_odds


def shared(counts: list[int], odds: list[float]) -> Shared:
    return Shared(np.arange(10, 10 + len(counts)), np.array(counts), np.array(odds), len(counts))


def test_log_odds_by_hand() -> None:
    # 8 of 10 members have the item, 20 of 1000 rows have it: the rest holds 12 of 990.
    value, error = log_odds(8, 10, 20, 1000)
    assert value == pytest.approx(math.log(8.5 / 2.5) - math.log(12.5 / 978.5))
    assert error == pytest.approx(math.sqrt(1 / 8.5 + 1 / 2.5 + 1 / 12.5 + 1 / 978.5))


def test_log_odds_is_zero_without_enrichment_and_changes_sign_with_it() -> None:
    same, more, fewer = (log_odds(inside, 1000, 10_000, 100_000)[0] for inside in (100, 200, 50))
    assert abs(same) < 0.01
    assert more > 0.7
    assert fewer < -0.7


def test_log_odds_is_finite_at_every_edge() -> None:
    value, error = log_odds([10, 0, 10], [10, 10, 10], [10, 0, 10], 10)
    assert np.isfinite([value, error]).all()


def test_log_odds_refuses_impossible_counts() -> None:
    with pytest.raises(AssertionError, match="more often"):
        log_odds(5, 10, 4, 100)


@pytest.mark.parametrize("size", [1, 5, 11, 12, 30, 500])
def test_shown_members_are_disjoint_and_at_the_right_ends(size: int) -> None:
    chosen = choose_shown(size, 4, 6, 3, np.random.default_rng(0))
    everything = np.concatenate([chosen.nearest, chosen.random, chosen.edge])
    assert len(set(everything.tolist())) == len(everything) == min(size, 13)
    assert chosen.nearest.tolist() == list(range(min(4, size)))
    assert chosen.edge.tolist() == list(range(size - 1, size - 1 - min(3, max(0, size - 4)), -1))
    assert (np.diff(chosen.random) > 0).all()


def test_random_members_come_from_everywhere_between() -> None:
    drawn = [choose_shown(100, 10, 5, 10, np.random.default_rng(seed)).random for seed in range(200)]
    counts = np.bincount(np.concatenate(drawn), minlength=100)
    assert (counts[:10] == 0).all()
    assert (counts[90:] == 0).all()
    assert (counts[10:90] > 0).all()


def test_a_label_names_targets_until_they_cover_most_of_the_cluster() -> None:
    none = shared([10], [0.0])
    label = describe(100, shared([40, 30, 20, 10], [5.0] * 4), none, none)
    assert label.targets == [10, 11]
    assert label.covered == pytest.approx(0.7)
    assert label.others == 0
    varied = describe(100, shared([5] * 20, [5.0] * 20), none, none)
    assert varied.targets == [10, 11, 12]
    assert varied.others == 17


def test_a_label_names_what_precedes_only_when_it_is_common_and_distinctive() -> None:
    targets = shared([100], [9.0])
    common_not_distinctive = shared([80, 20], [0.2, 3.0])
    distinctive_not_common = shared([30, 10, 10], [3.0, 3.0, 3.0])
    both = shared([20, 45, 15, 20], [0.0, 3.0, 4.0, 9.0])
    assert describe(100, targets, common_not_distinctive, distinctive_not_common).preceding == []
    assert describe(100, targets, distinctive_not_common, both).preceding == []
    assert describe(100, targets, both, both).preceding == [11, 12]
    assert describe(100, targets, both, shared([60, 40], [3.0, 3.0])).sources == [10]
