import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from aux.ridge import PENALTIES, RidgeAccumulator
from scale.errors import UserError


def data(rows, seed, noise=(0.1, 3.0)):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 20)) * np.logspace(-2, 2, 20) + 100.0
    weights = np.random.default_rng(99).normal(size=(20, 2)) / np.logspace(-2, 2, 20)[:, None]
    return X, X @ weights + 7.0 + rng.normal(size=(rows, 2)) * noise


def accumulated(X, Y):
    return RidgeAccumulator(X.shape[1], Y.shape[1]).update(X, Y)


@pytest.mark.parametrize("penalty", [1e-6, 0.1, 10.0])
def test_equals_sklearn_on_normalised_inputs(penalty):
    (X, Y), (Xv, Yv) = data(60, 0), data(40, 1)
    found = accumulated(X, Y).result(accumulated(Xv, Yv), penalties=[penalty])
    mean, std = X.mean(axis=0), X.std(axis=0)
    oracle = SklearnRidge(alpha=penalty * len(X)).fit((X - mean) / std, Y)
    np.testing.assert_allclose(found.predict(Xv), oracle.predict((Xv - mean) / std), rtol=1e-6)


def test_penalty_is_the_one_with_the_least_validation_error():
    (X, Y), (Xv, Yv) = data(30, 0), data(400, 1)
    training, validation = accumulated(X, Y), accumulated(Xv, Yv)
    fits = [training.result(validation, penalties=[penalty]) for penalty in PENALTIES]
    errors = np.stack([np.square(fit.predict(Xv) - Yv).mean(axis=0) for fit in fits])
    chosen = training.result(validation)
    np.testing.assert_array_equal(chosen.penalties, np.asarray(PENALTIES)[errors.argmin(axis=0)])
    np.testing.assert_allclose(np.square(chosen.predict(Xv) - Yv).mean(axis=0), errors.min(axis=0), rtol=1e-6)
    assert chosen.penalties[1] > chosen.penalties[0]


def test_validation_rows_with_another_mean_count_in_the_choice():
    """Away from the training mean it is the offset that tells a shrunk slope from a full one."""
    rng = np.random.default_rng(0)
    X, far = rng.normal(size=(200, 1)), np.full((50, 1), 5.0)
    training = accumulated(X, X + 0.1 * rng.normal(size=X.shape))
    for slope, penalty in ((1.0, 1e-4), (0.5, 1.0), (1 / 11, 10.0)):
        chosen = training.result(accumulated(far, slope * far), penalties=[1e-4, 1.0, 10.0])
        assert chosen.penalties == [penalty]


def test_merge_equals_one_pass():
    (X, Y), (Xv, Yv) = data(100, 0), data(40, 1)
    whole = accumulated(X, Y).result(accumulated(Xv, Yv))
    parts = accumulated(X[70:], Y[70:]).merge(accumulated(X[:70], Y[:70]))
    np.testing.assert_allclose(parts.result(accumulated(Xv, Yv)).predict(Xv), whole.predict(Xv), rtol=1e-8)


def test_constant_feature_is_harmless():
    (X, Y), (Xv, Yv) = data(100, 0), data(40, 1)
    X, Xv = (np.concatenate([part, np.full((len(part), 1), 3.0)], axis=1) for part in (X, Xv))
    fit = accumulated(X, Y).result(accumulated(Xv, Yv))
    assert fit.weights[20] == pytest.approx([0.0, 0.0])
    assert np.corrcoef(fit.predict(Xv)[:, 0], Yv[:, 0])[0, 1] > 0.99


def test_no_rows_is_an_error():
    X, Y = data(10, 0)
    with pytest.raises(UserError, match="rows"):
        accumulated(X, Y).result(RidgeAccumulator(20, 2))
