"""The tail fitted to the null's conductances, against distributions whose tail is known."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from cluster.config import ClusterConfig
from cluster.neighbours import Found, Search, find_neighbours
from cluster.null import ACCEPT_NOTHING, WEAK_COMMUNITY, LowerTail, Null, null_graph, search_null
from cluster.walks import Walker


def null_of(points: int, dimensions: int, config: ClusterConfig) -> Null:
    graph = null_graph(points, dimensions, config)
    return search_null(graph, config, Walker(graph, config, ACCEPT_NOTHING))


def test_the_null_is_as_wide_as_the_vectors() -> None:
    seen = []

    def finder(X: npt.NDArray[Any], k: int, search: Search) -> Found:
        seen.append(X)
        return find_neighbours(X, k, search)

    config = ClusterConfig(k=5)
    spread = np.array([3.0, 0.5, 0.0])
    for given in (None, spread):
        null_graph(2000, 3, config, finder, given)
    np.testing.assert_allclose(seen[0].std(axis=0), 1, atol=0.05)
    np.testing.assert_allclose(seen[1], seen[0] * spread, rtol=1e-6)


def test_an_exponential_tail_is_continued_beyond_the_sample() -> None:
    sample = 10 - np.random.default_rng(0).exponential(0.5, 20000)
    tail = LowerTail.fit(sample)
    beyond = 10 + 0.5 * np.log(1e-6)
    assert beyond < sample.min()
    assert tail.quantile(1e-6) == pytest.approx(beyond, abs=0.6)
    assert np.log10(tail.share_below(beyond)) == pytest.approx(-6, abs=0.5)


def test_a_lighter_tail_is_overstated() -> None:
    tail = LowerTail.fit(np.random.default_rng(1).standard_normal(2000))
    assert tail.quantile(1e-5) < -4.26
    assert tail.share_below(-5.0) > 2.9e-7


def test_share_and_quantile_are_inverse_and_count_above_the_edge() -> None:
    sample = np.random.default_rng(2).standard_normal(1000)
    tail = LowerTail.fit(sample)
    for share in (1e-8, 1e-3, 0.05):
        assert tail.share_below(tail.quantile(share)) == pytest.approx(share)
    assert tail.share_below(0.3) == np.mean(sample <= 0.3)
    assert tail.share_below(tail.quantile(0.4)) == pytest.approx(0.4, abs=2e-3)


def test_equal_values_have_no_tail_below_them() -> None:
    tail = LowerTail.fit(np.ones(50))
    assert tail.quantile(1e-9) == 1
    assert tail.share_below(0.99) == 0
    assert tail.share_below(1.0) == 1


def test_threshold_is_the_asked_expectation_under_a_ceiling() -> None:
    values = 0.4 + 0.02 * np.random.default_rng(3).standard_normal(500)
    null = Null(pl.DataFrame({"conductance": values}), 5000)
    for asked in (0.1, 1.0, 20.0):
        assert null.expected_below(null.threshold(asked)) == pytest.approx(asked)
    assert null.threshold(0.1) < null.threshold(1.0) < values.min()
    assert Null(pl.DataFrame({"conductance": values + 0.4}), 5000).threshold(1.0) == WEAK_COMMUNITY


def test_a_search_cut_short_counts_the_walks_it_left_out() -> None:
    full = null_of(1500, 4, ClusterConfig(k=12))
    short = null_of(1500, 4, ClusterConfig(k=12, null_seeds=20))
    assert full.walks == len(full.table) > 20
    assert len(short.table) == 20
    assert short.walks >= full.walks
    assert short.table.equals(full.table.head(20))


def test_the_null_at_its_threshold_finds_about_what_was_asked() -> None:
    config = ClusterConfig(k=15)
    threshold = null_of(3000, 3, config).threshold(1.0)
    assert threshold < WEAK_COMMUNITY
    replicates = [null_of(3000, 3, ClusterConfig(k=15, seed=seed)).table["conductance"] for seed in range(1, 6)]
    accepted = [int((conductance <= threshold).sum()) for conductance in replicates]
    assert np.mean(accepted) <= 2
    assert np.mean([(conductance <= threshold * 1.5).sum() for conductance in replicates]) > 2
