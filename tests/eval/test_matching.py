import numpy as np
import pytest

from eval.matching import cells, sketch
from eval.support import cluster_support


def test_cells_share_a_target_and_are_no_larger_than_asked():
    rng = np.random.default_rng(0)
    tokens, described = rng.integers(0, 9, size=700), rng.normal(size=(700, 4))
    found = cells(tokens, described, 16)
    sizes = np.bincount(found)
    assert sizes.max() <= 16
    assert sizes.min() >= 8  # a token's occurrences are halved while they are more than that
    assert all(len(np.unique(tokens[found == cell])) == 1 for cell in range(len(sizes)))


def test_cells_follow_the_activations():
    rng = np.random.default_rng(1)
    side = rng.integers(0, 2, size=400)
    described = rng.normal(size=(400, 4)) + 20 * side[:, None] * np.eye(4)[0]
    found = cells(np.zeros(400, int), described, 210)
    assert len(np.unique(found)) == 2
    agree = (found == found[0]) == (side == side[0])
    assert agree.mean() > 0.9  # the median need not fall between the two


def test_the_sketch_keeps_distances_and_weighs_layers_alike():
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(60, 300)), 1000 * rng.normal(size=(60, 300))
    blocks = np.split(np.hstack([first, second]).astype(np.float32), [20, 21])
    found = sketch(blocks, 2, seed=0)
    np.testing.assert_allclose(found, sketch([np.concatenate(blocks)], 2, seed=0), rtol=1e-4, atol=1e-4)
    wanted = np.hstack([first, second / 1000])

    def lengths(values):
        return np.linalg.norm(values[1:] - values[:-1], axis=1)

    ratio = lengths(found) / lengths(wanted)
    assert ratio.std() / ratio.mean() < 0.2


@pytest.mark.parametrize("matched", [False, True])
def test_what_activations_explain_is_no_support_once_it_is_matched(matched):
    """Clusters of activations, where the susceptibility is a function of them: near in both, adding nothing."""
    rng = np.random.default_rng(3)
    kind = rng.permutation(np.repeat(np.arange(4), 512))
    activations = rng.normal(size=(2048, 5)) + 30 * kind[:, None] * np.eye(5)[0]
    chi = 2 * rng.normal(size=(4, 3))[kind] + rng.normal(size=(2048, 3))
    labels = np.where(rng.random(2048) < 0.2, kind, -1)
    groups = cells(np.zeros(2048, int), activations if matched else 0 * activations, 16 if matched else 2048)
    p = cluster_support(chi, labels, groups=groups, permutations=999)["p"].to_numpy()
    assert (p < 0.01).all() == (not matched)
    assert (p > 0.01).all() == matched
