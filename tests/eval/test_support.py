import numpy as np
import pytest
from scipy import stats

from eval.support import cluster_support
from scale.errors import UserError


def planted(tokens=600, width=8, size=30, tightness=0.3, seed=0):
    """Cluster 0 is tight, clusters 1 to 9 are random sets."""
    rng = np.random.default_rng(seed)
    chi = rng.normal(size=(tokens, width))
    labels = np.full(tokens, -1)
    labels[: 10 * size] = np.repeat(np.arange(10), size)
    chi[labels == 0] = tightness * chi[labels == 0] + rng.normal(size=width)
    shuffled = rng.permutation(tokens)
    return chi[shuffled], labels[shuffled]


def test_finds_the_planted_cluster_and_no_other():
    chi, labels = planted()
    table = cluster_support(chi, labels, permutations=499)
    assert table["cluster"].to_list() == list(range(10))
    assert table["members"].to_list() == [30] * 10
    assert table["p"][0] == 1 / 500
    assert table["effect"][0] > 5
    assert table["relative"][0] < 0.5
    assert (table["p_corrected"][1:] > 0.05).all()
    assert table["relative"][1:].to_numpy() == pytest.approx(1.0, abs=0.2)


def test_dispersion_and_null_agree_with_brute_force():
    chi, labels = planted(tightness=0.9)
    groups = np.arange(600) % 7
    table = cluster_support(chi, labels, groups=groups, permutations=3000)
    rng = np.random.default_rng(5)
    for cluster in (0, 3):
        members = np.flatnonzero(labels == cluster)
        random = [dispersion(chi, matched(rng, groups, members)) for _ in range(3000)]
        own = dispersion(chi, members)
        row = table.filter(cluster=cluster)
        assert row["relative"][0] == pytest.approx(own / np.mean(random), rel=0.01)
        assert row["effect"][0] == pytest.approx((np.mean(random) - own) / np.std(random), abs=0.15)
        assert row["p"][0] == pytest.approx(np.mean(np.array(random) <= own), abs=0.03)


@pytest.mark.parametrize("cores", [1, 3])
def test_it_does_not_depend_on_how_many_clusters_are_tested_at_once(cores, monkeypatch):
    chi, labels = planted()
    expected = cluster_support(chi, labels, permutations=299)
    monkeypatch.setattr("eval.support.available_cores", lambda: cores)
    monkeypatch.setattr("eval.support.PIECES", 1)
    assert cluster_support(chi, labels, permutations=299).equals(expected)
    shifted = cluster_support(chi, np.where(labels >= 0, labels + 4, -1), permutations=299)
    assert not np.array_equal(shifted["p"], expected["p"])  # sets go with a cluster's number


def dispersion(chi, rows):
    return np.square(chi[rows] - chi[rows].mean(axis=0)).sum(axis=1).mean()


def matched(rng, groups, members):
    wanted = zip(*np.unique(groups[members], return_counts=True), strict=True)
    return np.concatenate([rng.choice(np.flatnonzero(groups == g), n, replace=False) for g, n in wanted])


@pytest.mark.parametrize("grouped", [False, True])
def test_p_is_uniform_for_random_clusters(grouped):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 5, size=2000)
    chi = rng.standard_t(4, size=(2000, 4)) + 3 * groups[:, None]
    labels = rng.integers(0, 300, size=2000)
    if grouped:
        # Clusters that prefer a group: null given the group, not null without it.
        labels = np.where(rng.random(2000) < 0.7, 60 * groups + labels % 60, labels)
    table = cluster_support(chi, labels, groups=groups if grouped else None, permutations=499)
    assert stats.kstest(table["p"], "uniform").pvalue > 0.01
    if grouped:
        assert stats.kstest(cluster_support(chi, labels, permutations=499)["p"], "uniform").pvalue < 1e-6


def test_error_shared_within_one_measurement_is_not_support():
    """Members share finite-draw error at one set of draws, independently again at the other."""
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(6000, 6))
    labels = np.repeat(np.arange(600), 10)
    measured = [signal + 2 * rng.normal(size=(600, 6))[labels] + 0.1 * rng.normal(size=(6000, 6)) for _ in range(2)]
    within = cluster_support(measured[0], labels, permutations=199)
    across = cluster_support(measured[0], labels, second=measured[1], permutations=199)
    assert (within["p"] <= 0.01).mean() > 0.9
    assert (across["p"] <= 0.05).mean() < 0.1


def test_real_closeness_survives_across_measurements():
    chi, labels = planted(tightness=0.2)
    noise = np.random.default_rng(2)
    first, second = (chi + 0.3 * noise.normal(size=chi.shape) for _ in range(2))
    table = cluster_support(first, labels, second=second, permutations=199)
    assert table["p"][0] == 1 / 200
    assert table["relative"][0] < table["relative"][1:].min()


def test_seed_offset_and_other_clusters_do_not_matter_beyond_what_they_should():
    chi, labels = planted()
    table = cluster_support(chi, labels, permutations=99, seed=7)
    assert table.equals(cluster_support(chi, labels, permutations=99, seed=7))
    assert not table.equals(cluster_support(chi, labels, permutations=99, seed=8))
    shifted = cluster_support(chi + 1e5, labels, permutations=99, seed=7)
    np.testing.assert_allclose(shifted["effect"], table["effect"], rtol=1e-6)
    alone = cluster_support(chi, np.where(labels == 4, 4, -1), permutations=99, seed=7)
    assert alone["effect"][0] == table["effect"][4]


def test_small_clusters_are_left_out_and_whole_groups_have_no_support():
    chi, labels = planted()
    labels = np.where(labels == 2, -1, labels)
    labels[np.flatnonzero(labels == -1)[:3]] = 50
    table = cluster_support(chi, labels, groups=labels, permutations=50, min_members=4)
    assert table["cluster"].to_list() == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert table["free"].to_list() == [0] * 9
    assert table["p"].to_list() == table["p_corrected"].to_list() == table["effect"].to_list() == [None] * 9
    assert cluster_support(chi, np.full(600, -1)).is_empty()


def test_wrong_shapes_are_named():
    chi, labels = planted()
    with pytest.raises(UserError, match="labels"):
        cluster_support(chi, labels[:-1])
    with pytest.raises(UserError, match="groups"):
        cluster_support(chi, labels, groups=labels[:-1])
    with pytest.raises(UserError, match="second"):
        cluster_support(chi, labels, second=chi[:, :-1])


def heavy_tailed(seed=0):
    """Cluster 0 has a direction in common, 1 to 9 have none; lengths have no variance."""
    rng = np.random.default_rng(seed)
    chi, labels = rng.normal(size=(600, 8)), np.full(600, -1)
    labels[:300] = np.repeat(np.arange(10), 30)
    chi[labels == 0] += 1.5 * np.eye(8)[0]
    return chi * rng.pareto(1.0, size=(600, 1)), labels


def test_directions_alone_where_lengths_are_heavy_tailed():
    chi, labels = heavy_tailed()
    whole, alone = (cluster_support(chi, labels, directions=d, permutations=499) for d in (False, True))
    assert alone["p"][0] == 1 / 500
    assert whole["p"][0] > 0.05
    assert (alone["p_corrected"][1:] > 0.05).all()
    longer = cluster_support(chi * np.arange(1, 601)[:, None], labels, directions=True, permutations=499)
    assert np.allclose(longer["effect"], alone["effect"])


def test_a_vector_of_no_length_is_no_error():
    chi, labels = heavy_tailed()
    chi[5] = 0
    assert np.isfinite(cluster_support(chi, labels, directions=True, permutations=50)["effect"].to_numpy()).all()


def test_sequential_p_is_exact_and_small_ones_are_small():
    """On null clusters p is uniform whatever the stopping rule; a planted cluster's is as small as can be."""
    rng = np.random.default_rng(3)
    chi, labels = rng.normal(size=(4000, 3)), rng.integers(0, 400, size=4000)
    for exceedances in (1, 5, 50):
        p = cluster_support(chi, labels, permutations=999, exceedances=exceedances)["p"].to_numpy()
        for level in (0.05, 0.2, 0.5):
            assert (p <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 400))
    chi, labels = planted()
    table = cluster_support(chi, labels, permutations=9999)
    assert table["p"][0] == 1 / 10_000
    assert (table["p"][1:] > 1e-3).all()


def test_one_cluster_among_many_can_pass():
    chi, labels = planted(tokens=6000)
    labels[labels < 0] = 10 + np.arange((labels < 0).sum()) % 280  # 290 clusters, one of them real
    few, many = (cluster_support(chi, labels, permutations=n)["p_corrected"][0] for n in (999, 9999))
    assert few > 0.05 > many


def test_a_cluster_that_holds_its_groups_but_for_one_token_is_tested_on_that():
    chi, labels = planted()
    groups = np.where(labels == 0, 0, 1)
    groups[np.flatnonzero(labels == -1)[0]] = 0
    table = cluster_support(chi, labels, groups=groups, permutations=199)
    assert table["free"].to_list()[0] == 30
    assert table["p"][0] is not None
