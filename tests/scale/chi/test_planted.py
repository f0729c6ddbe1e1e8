"""Draws of its own for every document: errors then make no neighbours across documents, and signal still does.

Tokens of planted classes have losses that are linear in the draw, l_t(w) = f_t · w with f_t a direction of the token's
class, all of one length, and a little of its own. χ is measured at finitely many draws by the arithmetic of
`scale.chi.probe` and `scale.chi.estimate`; there is no language model. Without signal (draws about zero, φ unrelated to
them) the true χ of every token is the same, and all that is measured is error. Chance is 1 in 12.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from scale.chi.estimate import Estimator, Moments, Parts, assemble
from scale.chi.probe import HALVES, Pool, subset_generator
from scale.config import ProbeConfig
from scale.model.components import Component

Mode = Literal["per-document", "shared"]

DOCUMENTS, TOKENS, CLASSES, NEIGHBOURS = 60, 16, 12, 10
COLUMNS, PARAMETERS, CHAINS = 24, 40, 2
PICKED = 16


@dataclass(frozen=True)
class Planted:
    """Classes of tokens (documents, tokens), and per column a pool of draws and the tokens' gradients."""

    classes: np.ndarray
    pools: list[Pool]
    gradients: list[np.ndarray]


def directions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    drawn = rng.normal(size=shape)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def plant(signal: float, draws: int, columns: int = COLUMNS, seed: int = 0) -> Planted:
    """The last column is the unrestricted chain.

    With ``signal``, the centre of the draws is that far from zero, and φ is linear in them too.
    """
    rng = np.random.default_rng(seed)
    classes = rng.integers(CLASSES, size=(DOCUMENTS, TOKENS))
    pools, gradients = [], []
    for column in range(columns + 1):
        centre = signal * directions(rng, PARAMETERS)
        offsets = tuple([centre + rng.normal(size=(draws, PARAMETERS)) for _ in range(CHAINS)] for _ in range(HALVES))
        slope = directions(rng, PARAMETERS)
        phi = tuple(
            1 + 0.1 * (np.stack(half) @ slope if signal else rng.normal(size=(CHAINS, draws))) for half in offsets
        )
        pools.append(Pool(Component(f"l0h{column}", "head", 0, column, 0, ()), offsets, phi))  # type: ignore[arg-type]
        own = 0.3 * directions(rng, DOCUMENTS, TOKENS, PARAMETERS)
        gradients.append(directions(rng, CLASSES, PARAMETERS)[classes] + own)
    return Planted(classes, pools, gradients)


def parts_of(pool: Pool, gradients: np.ndarray, document: int, half: int, settings: ProbeConfig) -> Parts:
    moments = Moments(len(gradients))
    generator = subset_generator(pool.component.name, document, half, settings)
    chosen = pool.pick(half, settings.draws_per_document // HALVES, generator)
    moments.update(pool.phi[half].ravel()[chosen], pool.draws(half, chosen) @ gradients.T)
    return moments.result()


def measure(planted: Planted, draws: Mode, estimator: Estimator) -> np.ndarray:
    """χ (documents, tokens, columns), the mean of both halves."""
    settings = ProbeConfig(draws=draws, draws_per_document=PICKED)
    mean_phi = np.array([pool.mean_phi for pool in planted.pools[:-1]])
    chi = np.zeros((DOCUMENTS, TOKENS, len(mean_phi)))
    for document in range(DOCUMENTS):
        for half in range(HALVES):
            *parts, full = (
                parts_of(pool, gradients[document], document, half, settings)
                for pool, gradients in zip(planted.pools, planted.gradients, strict=True)
            )
            covariance, shift = (np.stack([vars(p)[key] for p in parts], axis=1) for key in ("covariance", "shift"))
            chi[document] += assemble(covariance, shift, full.shift, mean_phi, estimator) / HALVES
    return chi


def neighbours(chi: np.ndarray) -> np.ndarray:
    """The nearest tokens of other documents in standardised χ, (tokens of all documents, `NEIGHBOURS`)."""
    rows = chi.reshape(-1, chi.shape[-1])
    scores = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    scores -= scores.mean(axis=1, keepdims=True)
    distance = (scores**2).sum(axis=1)[:, None] + (scores**2).sum(axis=1) - 2 * scores @ scores.T
    document = np.repeat(np.arange(DOCUMENTS), TOKENS)
    distance[document[:, None] == document] = np.inf
    return np.argsort(distance, axis=1)[:, :NEIGHBOURS]


def same_class(near: np.ndarray, classes: np.ndarray) -> float:
    labels = classes.ravel()
    return float((labels[near] == labels[:, None]).mean())


def chance(near: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the same-class share when every document names its classes at random.

    Tokens of a document that share a class, and hence an error, still do: only what holds across documents is undone.
    """
    rng = np.random.default_rng(0)
    renamed = [np.stack([rng.permutation(CLASSES)[row] for row in classes]) for _ in range(200)]
    shares = [same_class(near, labels) for labels in renamed]
    return float(np.mean(shares)), float(np.std(shares))


def found(planted: Planted, draws: Mode, estimator: Estimator = "two-chain") -> tuple[float, float]:
    """The same-class share of neighbours in other documents, and how many standard deviations that is above chance."""
    near = neighbours(measure(planted, draws, estimator))
    share = same_class(near, planted.classes)
    mean, deviation = chance(near, planted.classes)
    assert mean == pytest.approx(1 / CLASSES, rel=0.1)
    return share, (share - mean) / deviation


@pytest.mark.parametrize("estimator", ["two-chain", "covariance"])
def test_without_signal_shared_draws_make_neighbours_and_own_draws_do_not(estimator: Estimator) -> None:
    planted = plant(signal=0, draws=800)
    share, deviations = found(planted, "shared", estimator)
    assert share > 0.9
    assert deviations > 50
    share, deviations = found(planted, "per-document", estimator)
    assert abs(deviations) < 4


@pytest.mark.parametrize("estimator", ["two-chain", "covariance"])
def test_with_signal_both_find_it(estimator: Estimator) -> None:
    planted = plant(signal=1, draws=800)
    for draws in ("shared", "per-document"):
        share, deviations = found(planted, draws, estimator)
        assert share > 2 / CLASSES
        assert deviations > 10


def test_draws_are_own_only_as_far_as_there_are_enough_of_them() -> None:
    """Two subsets of n out of N draws have means that correlate by n/N; a document takes 8 from each half here."""
    shares = [found(plant(signal=0, draws=draws), "per-document")[0] for draws in (4, 16, 40)]  # n/N 1, 1/4, 1/10
    assert shares[0] > 0.9
    assert shares[0] > shares[1] + 0.1 > shares[2] + 0.2
