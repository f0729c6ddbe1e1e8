"""Ridge regression from activations to coordinates: the baseline that a non-linear model has to beat.

Normal equations are summed in float64 block by block; one eigendecomposition then gives the solution at every penalty.

Legend: N rows, I inputs, P targets, K penalties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aux.moments import BLOCK_ROWS, Columns, Moments
from aux.rows import ShardedRows
from scale.errors import UserError

#: In units of the variance of a normalised input feature.
PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 7))


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression with the penalty chosen for every target."""

    weights: np.ndarray
    intercept: np.ndarray
    penalties: np.ndarray

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Predicted targets (N, P), float64."""
        return np.asarray(inputs, dtype=np.float64) @ self.weights + self.intercept


class RidgeAccumulator:
    """Joint moments of inputs and targets that arrive in blocks."""

    def __init__(self, inputs: int, targets: int) -> None:
        self.inputs = inputs
        self.moments = Moments(inputs + targets)

    def update(self, inputs: np.ndarray, targets: np.ndarray) -> RidgeAccumulator:
        """Add one block of inputs (N, I) and targets (N, P)."""
        assert inputs.shape[1] == self.inputs, (inputs.shape, self.inputs)
        self.moments.update(np.concatenate([inputs, targets], axis=1, dtype=np.float64))
        return self

    def merge(self, other: RidgeAccumulator) -> RidgeAccumulator:
        """Add everything that `other` has seen."""
        assert self.inputs == other.inputs, (self.inputs, other.inputs)
        self.moments.merge(other.moments)
        return self

    def result(self, validation: RidgeAccumulator, penalties: Sequence[float] = PENALTIES) -> Ridge:
        """Fit on these rows, with the penalty of every target that predicts the rows of `validation` best.

        Minimises |Y - XW - b|² / N + λ |W|² over inputs scaled to unit variance; the penalty is chosen per target,
        because targets differ in how noisy they are, which makes for the stronger baseline.
        """
        assert self.inputs == validation.inputs, (self.inputs, validation.inputs)
        if self.moments.count < 2 or validation.moments.count < 1:
            raise UserError("aux: ridge regression needs rows to fit and rows of other documents to validate")
        path = _RidgePath.fit(self)
        errors = np.stack([path.validation_error(validation, penalty) for penalty in penalties])
        chosen = np.asarray(penalties)[errors.argmin(axis=0)]
        return path.solution(chosen)


def fit_ridge(inputs: ShardedRows, targets: ShardedRows, validation: np.ndarray) -> Ridge:
    """The regression on all rows but those of ``validation`` (a mask), which choose its penalties."""
    sides = []
    for chosen in (np.flatnonzero(~validation), np.flatnonzero(validation)):
        sums = RidgeAccumulator(inputs.width, targets.width)
        for start in range(0, len(chosen), BLOCK_ROWS):
            rows = chosen[start : start + BLOCK_ROWS]
            sums.update(inputs.take(rows), targets.take(rows))
        sides.append(sums)
    return sides[0].result(sides[1])


@dataclass(frozen=True)
class _RidgePath:
    """All solutions at once: eigenpairs of the normalised inputs' covariance, targets projected onto them."""

    columns: Columns
    inputs: int
    values: np.ndarray
    vectors: np.ndarray
    projected: np.ndarray

    @classmethod
    def fit(cls, training: RidgeAccumulator) -> _RidgePath:
        covariance, columns, inputs = training.moments.covariance(), training.moments.columns(), training.inputs
        scale = columns.scale()[:inputs]
        values, vectors = np.linalg.eigh(covariance[:inputs, :inputs] / np.outer(scale, scale))
        projected = vectors.T @ (covariance[:inputs, inputs:] / scale[:, None])
        return cls(columns, inputs, np.maximum(values, 0.0), vectors, projected)

    def solution(self, penalties: np.ndarray) -> Ridge:
        """Weights for one penalty per target, in raw units."""
        inputs = self.inputs
        rotated = self.projected / (self.values[:, None] + penalties)
        weights = (self.vectors @ rotated) / self.columns.scale()[:inputs, None]
        intercept = self.columns.mean[inputs:] - self.columns.mean[:inputs] @ weights
        return Ridge(weights, intercept, penalties)

    def validation_error(self, validation: RidgeAccumulator, penalty: float) -> np.ndarray:
        """Mean squared error (P,) over the rows of `validation`, from their moments alone."""
        inputs, moments = self.inputs, validation.moments
        ridge = self.solution(np.full(self.projected.shape[1], penalty))
        covariance, weights = moments.covariance(), ridge.weights
        explained = (weights * (covariance[:inputs, :inputs] @ weights - 2 * covariance[:inputs, inputs:])).sum(axis=0)
        offset = moments.mean[inputs:] - moments.mean[:inputs] @ weights - ridge.intercept
        return np.diag(covariance)[inputs:] + explained + offset * offset
