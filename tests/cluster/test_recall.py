"""Recall by density, where it is known which neighbours are lost."""

import numpy as np
import pytest

from cluster.recall import Recall, sample_of


def recall_of(lost_dense: int, lost_sparse: int) -> Recall:
    """100 queries, 10 neighbours each at distances that grow with the query's number; the ends lose some."""
    true = np.linspace(0.1, 1, 10)[None] * np.arange(1, 101)[:, None]
    found = true.copy()
    found[:10, 10 - lost_dense :] = np.inf
    found[90:, 10 - lost_sparse :] = np.inf
    order = np.random.default_rng(0).permutation(100)
    return Recall.of(np.arange(100), true[order].astype(np.float32), np.sort(found[order]).astype(np.float32))


def test_recall_is_told_by_density() -> None:
    recall = recall_of(lost_dense=5, lost_sparse=2)
    assert recall.dense == pytest.approx(0.5)
    assert recall.sparse == pytest.approx(0.8)
    assert recall.total == pytest.approx(0.93)
    assert recall.least == recall.dense
    assert recall_of(0, 9).least == pytest.approx(0.1)
    assert recall_of(0, 0).least == 1


def test_neighbours_at_the_same_distance_are_as_true() -> None:
    true = np.array([[0, 0, 0, 1.0]], np.float32)
    assert Recall.of(np.array([0]), true, np.array([[0, 0, 1, 1.0]], np.float32)).total == 1
    assert Recall.of(np.array([0]), true, np.array([[0, 0, 1, 1.5]], np.float32)).total == 0.75


def test_recall_is_told_by_membership_once_that_is_known() -> None:
    recall = recall_of(5, 0)
    chosen = np.zeros(100, bool)
    chosen[recall.rows[recall.found < 1][:4]] = True
    assert recall.inside(chosen) == pytest.approx(0.5)
    assert recall.inside(~chosen) == pytest.approx((6 * 0.5 + 90) / 96)
    assert recall.inside(np.zeros(100, bool)) is None
    assert Recall.exact().inside(chosen) == 1


def test_a_search_of_every_pair_needs_no_sample() -> None:
    recall = Recall.exact()
    assert (recall.total, recall.dense, recall.sparse, recall.least) == (1, 1, 1, 1)
    assert recall.table().height == 0


def test_the_sample_has_no_query_twice() -> None:
    sample = sample_of(5000, 0)
    assert len(np.unique(sample)) == len(sample) == 1000
    assert not np.array_equal(sample, sample_of(5000, 1))
    assert sample_of(30, 0).tolist() == list(range(30))
