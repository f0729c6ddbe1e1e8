from collections import Counter

import numpy as np
import polars as pl
import pytest

from cluster.report.background import Background
from cluster.report.members import CLUSTERS, MEMBERS, cluster_ranges, count_shared
from cluster.report.statistics import log_odds


def test_ranges_cover_every_cluster_once_within_the_block() -> None:
    clusters, sizes = np.array([0, 2, 3, 7, 8]), np.array([30, 30, 50, 200, 1])
    assert list(cluster_ranges(clusters, sizes, 100)) == [(0, 2), (3, 3), (7, 7), (8, 8)]
    assert list(cluster_ranges(clusters, sizes, 1000)) == [(0, 8)]
    assert list(cluster_ranges(clusters[:0], sizes[:0], 100)) == []


def test_no_range_has_many_clusters_or_members_however_large_the_block() -> None:
    ranges = list(cluster_ranges(np.arange(9000), np.full(9000, 3), 10**9))
    assert [last - first + 1 for first, last in ranges] == [CLUSTERS] * 4 + [9000 - 4 * CLUSTERS]
    large = list(cluster_ranges(np.arange(10), np.full(10, MEMBERS // 2 + 1), 10**9))
    assert large == [(i, i) for i in range(10)]


def test_shared_items_against_plain_counting() -> None:
    rng = np.random.default_rng(0)
    size, vocabulary = 400, 12
    members = pl.DataFrame(
        {
            "cluster": np.sort(rng.integers(0, 5, size)),
            "token": rng.integers(0, vocabulary, size),
            "preceding": rng.integers(0, vocabulary, size),
            "source": rng.integers(0, 3, size),
        }
    )
    counts = np.full(vocabulary, 300)
    background = Background(12 * 300, counts, counts * 1, np.full(3, 1200), counts)
    shared = count_shared(members, background)
    for column, found in (("token", shared.targets), ("preceding", shared.preceding), ("source", shared.sources)):
        everywhere = 1200 if column == "source" else 300
        for cluster, one in enumerate(found):
            values = members.filter(pl.col("cluster") == cluster)[column].to_list()
            expected = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
            assert list(zip(one.items.tolist(), one.counts.tolist(), strict=True)) == expected
            assert one.distinct == len(set(values))
            odds = [float(log_odds(n, len(values), everywhere, background.rows)[0]) for _, n in expected]
            assert one.log_odds == pytest.approx(odds)
