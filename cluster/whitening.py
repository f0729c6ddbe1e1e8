"""Whitening: principal components scaled to unit variance, fitted block by block in float64.

X is (rows, d). Directions whose variance is below a relative threshold are dropped, never amplified. Unit variance
lifts noisy directions to the height of the others; where it is known how much of each column is signal, directions can
be scaled to the variance of their signal instead, or left as they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.config import ClusterConfig
from scale.errors import UserError

Vector = npt.NDArray[np.float64]


class WhiteningAccumulator:
    """Mean and scatter of rows seen so far; blocks are joined by the updating formula of Chan, Golub and LeVeque."""

    def __init__(self, dimensions: int) -> None:
        self.rows = 0
        self.mean = np.zeros(dimensions)
        self.scatter = np.zeros((dimensions, dimensions))

    def update(self, block: npt.NDArray[Any]) -> None:
        """Take in the rows of a block."""
        values = np.asarray(block, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise UserError(f"a block to whiten must have {len(self.mean)} columns, got shape {values.shape}")
        if not np.isfinite(values).all():
            raise UserError("a block to whiten holds NaN or infinite values: drop those rows first")
        if len(values):
            mean = values.mean(axis=0)
            centred = values - mean
            self._join(len(values), mean, centred.T @ centred)

    def merge(self, other: "WhiteningAccumulator") -> None:
        """Take in all that another accumulator has seen."""
        assert len(other.mean) == len(self.mean)
        if other.rows:
            self._join(other.rows, other.mean, other.scatter)

    def _join(self, rows: int, mean: Vector, scatter: npt.NDArray[np.float64]) -> None:
        total = self.rows + rows
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(shift, shift) * (self.rows * rows / total)
        self.mean = self.mean + shift * (rows / total)
        self.rows = total

    def result(
        self, rtol: float = ClusterConfig.rtol, n_components: int | None = ClusterConfig.n_components
    ) -> "Whitening":
        """Components of variance above `rtol` times the largest, at most `n_components` of them, largest first."""
        if self.rows < 2:
            raise UserError(f"whitening needs at least 2 rows, got {self.rows}")
        ascending, columns = np.linalg.eigh(self.scatter / (self.rows - 1))
        variances, components = ascending[::-1], columns.T[::-1]
        floor = max(rtol, len(self.mean) * float(np.finfo(np.float64).eps)) * variances[0]
        kept = int(np.count_nonzero(variances > floor))
        if kept == 0:
            raise UserError("whitening needs rows that differ: all rows are the same")
        kept = kept if n_components is None else min(kept, n_components)
        return Whitening(self.mean.copy(), _with_fixed_signs(components[:kept]), variances[:kept].copy(), np.ones(kept))


@dataclass(frozen=True)
class Whitening:
    """A fitted whitening.

    Args:
        mean: Of the rows (d).
        components: Orthonormal principal directions (kept, d); the largest entry of each is positive.
        variances: Of the rows along each component, with rows - 1 in the denominator (kept).
        spread: Standard deviation of each coordinate (kept): one, unless scaled otherwise.
    """

    mean: Vector
    components: npt.NDArray[np.float64]
    variances: Vector
    spread: Vector

    @classmethod
    def fit_stream(
        cls,
        blocks: Iterable[npt.NDArray[Any]],
        *,
        rtol: float = ClusterConfig.rtol,
        n_components: int | None = ClusterConfig.n_components,
    ) -> "Whitening":
        """Fit to rows that arrive in blocks."""
        accumulator: WhiteningAccumulator | None = None
        for block in blocks:
            accumulator = accumulator or WhiteningAccumulator(np.shape(block)[-1])
            accumulator.update(block)
        if accumulator is None:
            raise UserError("whitening needs at least one block of rows")
        return accumulator.result(rtol, n_components)

    def to_variance(self) -> "Whitening":
        """The same directions, each with the variance it has."""
        return replace(self, spread=np.sqrt(self.variances))

    def to_signal(self, reliability: Vector) -> "Whitening":
        """The same directions, each scaled to the variance of its signal, reliability times variance.

        A direction has the mean reliability of the d columns, weighted by its squared loadings.
        """
        signal = np.square(self.components) @ np.asarray(reliability, dtype=np.float64) * self.variances
        if not (np.isfinite(signal).all() and signal.min() >= 0 and signal.max() > 0):
            raise UserError("cluster.whitening: no column is known to be reliable; set it to plain")
        return replace(self, spread=np.sqrt(signal))

    def transform(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Coordinates (rows, kept), computed in float64; float32 rows give float32 coordinates."""
        coordinates = (np.asarray(X, dtype=np.float64) - self.mean) @ self.components.T / np.sqrt(self.variances)
        coordinates *= self.spread
        return coordinates.astype(np.float32) if np.asarray(X).dtype == np.float32 else coordinates


def whiten(
    X: npt.NDArray[Any],
    *,
    rtol: float = ClusterConfig.rtol,
    n_components: int | None = ClusterConfig.n_components,
) -> Whitening:
    """A whitening fitted to the rows of X."""
    return Whitening.fit_stream([X], rtol=rtol, n_components=n_components)


def _with_fixed_signs(components: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    return components * np.where(largest < 0, -1.0, 1.0)
