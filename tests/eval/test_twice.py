"""What noise that tokens share makes of the figures: good within shared draws, at chance across independent ones."""

import numpy as np
import pytest

from eval.agreement import agreement, best_matches
from eval.config import LeakageConfig
from eval.twice import Neighbours, found_again, in_other_documents, rare, separations, shared_signal, whitened

CONFIG = LeakageConfig(bootstrap=200, splits=4, neighbours=10)
TARGETS, DOCUMENTS, PER_DOCUMENT, FEATURES, COORDINATES = 12, 40, 30, 60, 8


def tokens_of(seed=0):
    """Target tokens, documents, and gradient features that tokens with one target have in common."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, TARGETS, size=DOCUMENTS * PER_DOCUMENT)
    features = rng.normal(size=(TARGETS, FEATURES))[tokens] + 0.5 * rng.normal(size=(len(tokens), FEATURES))
    return tokens, np.repeat(np.arange(DOCUMENTS), PER_DOCUMENT), features


def projected(features, signal, seed=0):
    """χ by halves: random projections of the features, one for each half, and one for both times `signal`."""
    rng = np.random.default_rng([seed, 1])
    own = rng.normal(size=(2, FEATURES, COORDINATES))
    common = rng.normal(size=(FEATURES, COORDINATES))
    return np.stack([features @ (half + signal * common) for half in own], axis=1)


@pytest.fixture(scope="module")
def noise():
    tokens, documents, features = tokens_of()
    return tokens, documents, projected(features, signal=0.0)


@pytest.fixture(scope="module")
def true():
    tokens, documents, features = tokens_of()
    return tokens, documents, projected(features, signal=5.0)


def test_neighbours_in_shared_noise_have_one_target_within_draws_only(noise, true):
    for (tokens, documents, halves), holds in ((noise, False), (true, True)):
        everything = np.ones(len(tokens), bool)
        found = Neighbours.of(halves, documents, CONFIG.neighbours).same(tokens, everything, CONFIG)
        assert found.chance == pytest.approx(1 / TARGETS, rel=0.05)
        assert found.within.value > 0.6
        assert found.within.low > 5 * found.chance
        assert (found.across.low > 5 * found.chance) == holds
    _, documents, halves = noise
    many = [one_draw(seed) for seed in range(6)]
    assert np.mean(many) == pytest.approx(1 / TARGETS, abs=0.06)


def one_draw(seed):
    tokens, documents, features = tokens_of(seed)
    near = Neighbours.of(projected(features, 0.0, seed), documents, 10)
    return near.same(tokens, np.ones(len(tokens), bool), CONFIG).across.value


def test_clusters_of_shared_noise_are_told_apart_within_draws_only(noise, true):
    for (tokens, documents, halves), holds in ((noise, False), (true, True)):
        found = found_again(halves, tokens, documents, CONFIG)
        assert found.chance == pytest.approx(1 / TARGETS)
        assert np.nanmean(found.within) > 0.95
        assert (np.nanmean(found.across) > 0.95) == holds
    tokens, documents, halves = noise
    assert np.nanmean(found_again(halves, tokens, documents, CONFIG).across) < 0.35
    assert found_again(halves, np.where(tokens == 3, 3, -1), documents, CONFIG).summary(CONFIG) is None


def test_separation_of_shared_noise_is_not_shared_by_the_halves(noise, true):
    shares = []
    for tokens, _, halves in (noise, true):
        whole, shared = separations(halves, tokens)
        assert (whole > 1).all()
        shares.append(shared.sum() / whole.sum())
    assert abs(shares[0]) < 0.5
    assert shares[1] > 0.8


def test_separation_is_what_its_formula_says():
    rng = np.random.default_rng(2)
    halves, labels = rng.normal(size=(200, 2, 3)), np.where(np.arange(200) < 50, 1, -1)
    placed = whitened(halves).astype(float)
    first, second = (placed[:50, half].mean(axis=0) - placed[:, half].mean(axis=0) for half in range(2))
    whole, shared = separations(halves, labels)
    assert np.isnan(whole[0])
    assert shared[1] == pytest.approx(first @ second, abs=1e-6)
    noise = np.square((first - second) / 2).sum()
    assert whole[1] - noise == pytest.approx(shared[1], abs=1e-6)


def test_shared_signal_is_seen_and_shared_noise_is_not():
    _, _, features = tokens_of()
    noise = np.array([shared_signal(projected(features, 0.0, seed), seed=seed) for seed in range(60)])
    assert (noise < 0.05).mean() <= 0.15
    assert 0.3 < noise.mean() < 0.7
    assert max(shared_signal(projected(features, 5.0, seed)) for seed in range(5)) < 0.01


def test_neighbours_lie_in_other_documents():
    rng = np.random.default_rng(4)
    points, documents = rng.normal(size=(60, 2)), np.repeat([0, 1, 2], [40, 10, 10])
    found = in_other_documents(points.astype(np.float32), points.astype(np.float32), documents, 5)
    distances = np.square(points[:, None] - points[None]).sum(axis=2)
    distances[documents[:, None] == documents[None]] = np.inf
    np.testing.assert_array_equal(found, np.argsort(distances, axis=1)[:, :5])


def test_rare_targets():
    tokens = np.array([0] * 996 + [1] * 4)
    assert rare(tokens).sum() == 4


def test_agreement_of_clusterings():
    one = np.array([0, 0, 0, 1, 1, -1, -1, 2])
    two = np.array([1, 1, -1, 0, 0, 0, -1, -1])
    np.testing.assert_allclose(best_matches(one, two), [2 / 3, 2 / 3, 0])
    assert agreement(one, one).jaccard == agreement(one, one).rand == 1.0
    found = agreement(one, two)
    assert found.both == 0.5
    assert found.jaccard == pytest.approx((4 / 9 + 2 / 3) / 2)
    assert agreement(one, np.full(8, -1)).rand is None
