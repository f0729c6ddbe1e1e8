"""A planted relation of known form and known noise: the auxiliary model finds it, ridge regression finds its share.

With x standard normal, a and b unit and orthogonal, and noise of size s, each target is
    y = a·x + 2 (|b·x| - sqrt(2/π)) + s e,    variances 1, 4 (1 - 2/π) and s².
No predictor can correlate better than sqrt(signal / (signal + s²)), and no linear one than sqrt(1 / (signal + s²)),
because |b·x| is uncorrelated with x.
"""

import numpy as np
import pytest
import torch

from aux.accuracy import PearsonAccumulator
from aux.config import AuxConfig
from aux.ridge import RidgeAccumulator
from aux.training import train

WIDTH, TARGETS = 16, 6
NOISE = np.linspace(0.3, 1.2, TARGETS)
SIGNAL = 1 + 4 * (1 - 2 / np.pi)
CEILING = np.sqrt(SIGNAL / (SIGNAL + NOISE**2))
LINEAR_CEILING = np.sqrt(1 / (SIGNAL + NOISE**2))


def planted(rows, seed):
    directions = np.linalg.qr(np.random.default_rng(99).normal(size=(WIDTH, WIDTH)))[0][:, : 2 * TARGETS]
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, WIDTH))
    straight, bent = np.split(x @ directions, 2, axis=1)
    y = straight + 2 * np.abs(bent) + NOISE * rng.normal(size=(rows, TARGETS))
    scale = np.logspace(-1, 1, WIDTH)
    return (x * scale + 5 * scale).astype(np.float32), y.astype(np.float32), np.arange(rows) // 100


def pearson(prediction, truth):
    return PearsonAccumulator(TARGETS).update(prediction, truth).result().pearson


@pytest.fixture(scope="module")
def training():
    return planted(30_000, seed=0)


def test_planted_relation_is_predicted_to_within_two_percent_of_the_ceiling(training):
    X, Y, documents = training
    config = AuxConfig(epochs=8, batch_size=256, learning_rate=3e-3, accelerator="cpu")
    model = train([X], [Y], documents, config, residual_width=WIDTH).model
    fresh_X, fresh_Y, _ = planted(30_000, seed=1)
    with torch.no_grad():
        found = pearson(model(torch.from_numpy(fresh_X)).numpy(), fresh_Y)
    print(found / CEILING)
    assert (found > 0.98 * CEILING).all()
    assert (found < CEILING + 0.015).all()


def test_ridge_finds_the_linear_share_and_no_more(training):
    X, Y, documents = training
    held = documents < 30
    fitted, check = (RidgeAccumulator(WIDTH, TARGETS).update(X[rows], Y[rows]) for rows in (~held, held))
    fresh_X, fresh_Y, _ = planted(30_000, seed=1)
    found = pearson(fitted.result(check).predict(fresh_X), fresh_Y)
    np.testing.assert_allclose(found, LINEAR_CEILING, atol=0.015)
    assert (found < 0.75 * CEILING).all()


def test_hidden_units_find_what_the_ridge_regression_leaves(training):
    """The ridge base changes where training starts from, not what can be found; and no more is needed."""
    X, Y, documents = training
    config = AuxConfig(epochs=8, batch_size=256, learning_rate=3e-3, accelerator="cpu", base="none")
    plain = train([X], [Y], documents, config, residual_width=WIDTH).model
    fresh_X, fresh_Y, _ = planted(30_000, seed=1)
    with torch.no_grad():
        found = pearson(plain(torch.from_numpy(fresh_X)).numpy(), fresh_Y)
    assert plain.base is None
    assert (found > 0.97 * CEILING).all()
