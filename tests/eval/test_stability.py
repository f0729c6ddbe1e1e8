import numpy as np
import pytest

from cluster.config import ClusterConfig
from eval.stability import induced, neighbour_graph, recovery, resampled_documents

CONFIG = ClusterConfig(k=10, min_size=10, alpha=0.01)


@pytest.fixture(scope="module")
def planted():
    """Six tight groups of 40 in a cloud of 600, and a second measurement of the same."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.repeat(np.arange(6), 40), np.full(600, -1)])
    centres = 6 * rng.normal(size=(6, 5))
    places = np.where(labels[:, None] >= 0, centres[labels], 3 * rng.normal(size=(840, 5)))
    views = [places + 0.3 * rng.normal(size=places.shape) for _ in range(2)]
    return labels, [neighbour_graph(view, CONFIG) for view in views]


def found(graph, labels, repeats=2, seed=0):
    return recovery(graph, labels, CONFIG, 0.5, repeats=repeats, min_members=5, seed=seed)


def test_planted_clusters_are_recovered_from_other_seeds_and_measurements(planted):
    labels, graphs = planted
    for graph in graphs:
        recovered = found(graph, labels)
        assert recovered.clusters.tolist() == list(range(6))
        assert recovered.jaccard.shape == (6, 2)
        assert np.median(recovered.jaccard) > 0.6
        assert recovered.p.max() < 1e-6
    unrelated = neighbour_graph(np.random.default_rng(9).normal(size=(840, 5)), CONFIG)
    assert np.median(found(unrelated, labels).jaccard) < 0.2
    table = found(graphs[1], labels).table("another measurement")
    assert table["change"].unique().to_list() == ["another measurement"]
    assert (table["low"] <= table["recovery"]).all()
    assert (table["recovery"] <= table["high"]).all()


def test_jaccard_is_with_the_set_that_the_walk_proposes(planted):
    from cluster.search import in_threads

    labels, graphs = planted
    walker = in_threads(1)("x", graphs[0], CONFIG, 0.5)
    rng = np.random.default_rng(3)
    seeds = [rng.choice(np.flatnonzero(labels == cluster), 1, replace=False)[0] for cluster in range(6)]
    recovered = found(graphs[0], labels, repeats=1, seed=3)
    for cluster, walk in enumerate(walker.walks(np.array(seeds))):
        own, members = set(walk.members.tolist()), set(np.flatnonzero(labels == cluster).tolist())
        assert recovered.jaccard[cluster, 0] == pytest.approx(len(own & members) / len(own | members))


def test_null_clusters_have_no_small_p_more_often_than_they_should(planted):
    _, graphs = planted
    rng = np.random.default_rng(1)
    p = np.concatenate([found(graphs[0], rng.permutation(np.arange(840) % 42), 1, seed).p for seed in range(6)])
    assert len(p) == 252
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / len(p))
    assert (p < 0.5).mean() > 0.1  # and it is no constant


def test_a_graph_without_some_documents_keeps_the_edges_between_the_others(planted):
    from scipy import sparse

    _, graphs = planted
    graph = graphs[0]
    matrix = sparse.csr_array((graph.weights, graph.indices, graph.indptr), shape=(840, 840))
    documents = np.arange(840) // 20
    rows = resampled_documents(documents, np.random.default_rng(0))
    assert 0.5 < len(np.unique(documents[rows])) / 42 < 0.8
    assert all(np.isin(np.flatnonzero(documents == d), rows).all() for d in np.unique(documents[rows]))
    smaller = induced(matrix, rows)
    dense = matrix.toarray()[np.ix_(rows, rows)]
    np.testing.assert_allclose(smaller.degree, dense.sum(axis=1), rtol=1e-5)


def test_no_clusters_are_no_error(planted):
    _, graphs = planted
    assert len(found(graphs[0], np.full(840, -1)).table("x")) == 0
