import numpy as np
import pytest
from scipy import sparse

from eval.autoencoder import Recipe, features_of, train
from eval.features import match_features, matched_shares
from scale.errors import UserError


def planted(seed=0):
    """Cluster 0 is feature 7, cluster 1 is half of feature 2 where that is strong, cluster 2 is nothing."""
    rng = np.random.default_rng(seed)
    labels = np.full(1000, -1)
    labels[:60], labels[100:140], labels[200:230] = 0, 1, 2
    features = np.where(rng.random((1000, 12)) < 0.05, rng.random((1000, 12)), 0.0)
    features[:, 7], features[:, 2] = labels == 0, 0.0
    features[100:140, 2], features[140:180, 2] = 1.0, 0.3
    return labels, features


def test_finds_the_feature_the_threshold_and_its_numbers():
    labels, features = planted()
    table = match_features(labels, features)
    assert table.row(0, named=True) | {"chance": 0} == {
        "cluster": 0, "size": 60, "feature": 7, "threshold": 0.0, "precision": 1.0, "recall": 1.0, "f1": 1.0,
        "chance": 0,
    }  # fmt: skip
    assert table.row(1)[:7] == (1, 40, 2, 0.5, 1.0, 1.0, 1.0)
    lax = match_features(labels, features, thresholds=[0.0]).row(1, named=True)
    assert (lax["precision"], lax["recall"], lax["f1"]) == (0.5, 1.0, pytest.approx(2 / 3))
    assert table["f1"][2] < 0.3
    assert (table["chance"] < 0.3).all()
    shares = matched_shares(table, at=(0.5,))["0.5"]
    assert shares == {"matched": pytest.approx(2 / 3), "chance": 0.0}


def test_every_way_of_giving_features_is_the_same():
    labels, features = planted()
    numbers = np.argsort(-features, axis=1, kind="stable")
    pair = (np.take_along_axis(features, numbers, axis=1), numbers)
    dense = match_features(labels, features)
    for other in (sparse.csr_array(features), sparse.coo_matrix(features), pair):
        assert match_features(labels, other).equals(dense)


def test_brute_force():
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, 5, size=300)
    features = rng.random((300, 8)) * (rng.random((300, 8)) < 0.3)
    table = match_features(labels, features, thresholds=(0.0, 0.5))
    for cluster, f1 in zip(table["cluster"], table["f1"], strict=True):
        member, best = labels == cluster, 0.0
        for threshold in (0.0, 0.5):
            on = features > threshold * features.max(axis=0)
            best = max(best, max(2 * (member & column).sum() / (member.sum() + column.sum()) for column in on.T))
        assert f1 == pytest.approx(best)


def test_mistakes_are_named():
    labels, features = planted()
    with pytest.raises(UserError, match="rows for 1000 labels"):
        match_features(labels, features[:-1])
    with pytest.raises(UserError, match="negative"):
        match_features(labels, -features)
    with pytest.raises(UserError, match=r"\(tokens, k\)"):
        match_features(labels, (features, features[:, :3]))
    assert match_features(np.full(1000, -1), features).is_empty()


def test_the_autoencoder_finds_planted_directions():
    """Tokens are sums of a few of 24 directions in 16 dimensions: more directions than dimensions."""
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(24, 16))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    on = rng.random((3000, 24)) < 0.06
    activations = (on * (1 + rng.random((3000, 24)))) @ directions + 5.0
    found = train(activations.astype(np.float32), Recipe(features=48, active=3, epochs=40, batch=256, seed=1))
    assert found.explained > 0.75
    learnt, random = found.model.decoder.detach().numpy(), rng.normal(size=(48, 16))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    assert np.median((learnt @ directions.T).max(axis=0)) > 0.85 > 0.7 > np.median((random @ directions.T).max(axis=0))
    table = match_features(np.where(on[:, 0], 0, -1), features_of(found.model, activations.astype(np.float32)))
    assert table["f1"][0] > 0.7
