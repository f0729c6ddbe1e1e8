import numpy as np
import pytest

from eval.bootstrap import bootstrap_mean, document_groups, jackknife_interval
from scale.errors import UserError


def test_mean_interval_has_the_width_of_document_means():
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(200), 50)
    effect = rng.normal(size=200)
    values = effect[documents] + 0.1 * rng.normal(size=len(documents))
    interval = bootstrap_mean(values, documents, resamplings=4000, seed=1)
    expected = 2 * 1.96 * effect.std(ddof=1) / np.sqrt(200)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(expected, rel=0.07)
    as_if_independent = bootstrap_mean(values, np.arange(len(values)), resamplings=200, seed=1)
    assert as_if_independent.high - as_if_independent.low < 0.3 * expected


def test_mean_weighs_documents_by_their_rows():
    values, documents = np.array([1.0, 1.0, 1.0, 5.0]), np.array([7, 7, 7, 2])
    interval = bootstrap_mean(values, documents, resamplings=500)
    assert (interval.value, interval.low, interval.high) == (2.0, 1.0, 5.0)
    # One document of each is drawn half of the time, and gives the mean over rows: the median resampling.
    median = bootstrap_mean(values, documents, resamplings=500, level=1e-9)
    assert median.low == pytest.approx(2.0)


def test_same_seed_same_interval():
    values = np.random.default_rng(0).normal(size=300)
    documents = np.arange(300) % 17
    shuffled = np.random.default_rng(1).permutation(300)
    assert bootstrap_mean(values, documents, seed=3) == bootstrap_mean(values, documents, seed=3)
    assert bootstrap_mean(values, documents, seed=3) != bootstrap_mean(values, documents, seed=4)
    reordered = bootstrap_mean(values[shuffled], documents[shuffled], seed=3)
    assert reordered.low == pytest.approx(bootstrap_mean(values, documents, seed=3).low)


def test_groups_keep_documents_whole_and_are_even():
    documents = np.random.default_rng(0).integers(1000, 1103, size=5000)
    groups = document_groups(documents, 20)
    per_document = [np.unique(groups[documents == document]) for document in np.unique(documents)]
    assert all(len(found) == 1 for found in per_document)
    counts = np.bincount(np.concatenate(per_document))
    assert len(counts) == 20
    assert counts.max() - counts.min() <= 1
    assert not np.array_equal(groups, document_groups(documents, 20, seed=1))


def test_too_few_documents_are_named():
    with pytest.raises(UserError, match=r"leakage\.groups is 20, but there are only 3 documents"):
        document_groups(np.array([0, 1, 2, 2]), 20)


def test_jackknife_of_a_mean_is_the_textbook_interval():
    from scipy import stats

    values = np.random.default_rng(0).normal(size=12)
    left_out = [np.delete(values, i).mean() for i in range(12)]
    interval = jackknife_interval(values.mean(), left_out, level=0.9)
    expected = stats.t.interval(0.9, 11, loc=values.mean(), scale=values.std(ddof=1) / np.sqrt(12))
    assert (interval.low, interval.high) == pytest.approx(expected)
