"""Standardisation of susceptibilities: z-scored columns, then centred rows.

The z-score cancels the unknown scale of every component's susceptibility; centring each row removes what is common to
all components of a token (chiefly how hard the token is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aux.moments import ColumnMoments, Columns, row_blocks
from scale.errors import UserError


@dataclass(frozen=True)
class Standardized:
    """Standardised susceptibilities and the column statistics that made them."""

    values: np.ndarray
    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class Standardization:
    """A fitted standardisation: call it on any rows with the same columns."""

    mean: np.ndarray
    std: np.ndarray

    def __call__(self, chi: np.ndarray) -> np.ndarray:
        """Standardise (N, C) susceptibilities, in float64."""
        assert chi.shape[1:] == self.mean.shape, (chi.shape, self.mean.shape)
        scores = (np.asarray(chi, dtype=np.float64) - self.mean) / self.std
        return scores - scores.mean(axis=1, keepdims=True)


class StandardizationAccumulator:
    """Column statistics of susceptibilities that arrive in blocks."""

    def __init__(self, components: Sequence[str] | int) -> None:
        """`components` are the column names, which errors then use, or just how many there are."""
        self.names = None if isinstance(components, int) else tuple(components)
        self.moments = ColumnMoments(components if isinstance(components, int) else len(components))

    def update(self, chi: np.ndarray) -> StandardizationAccumulator:
        """Add the rows of one (N, C) block."""
        self.moments.update(chi)
        return self

    def merge(self, other: StandardizationAccumulator) -> StandardizationAccumulator:
        """Add everything that `other` has seen."""
        assert self.names == other.names, "accumulators of different components"
        self.moments.merge(other.moments)
        return self

    def result(self) -> Standardization:
        """The fitted standardisation; a constant or non-finite column is a `UserError` that names it."""
        columns = checked(self.moments.result(), self.names)
        return Standardization(columns.mean, columns.std)


def checked(columns: Columns, names: Sequence[str] | None) -> Columns:
    """The statistics, when there are enough rows and every column varies."""
    if columns.count < 2:
        raise UserError(f"susceptibilities: at least 2 rows are needed to standardise, got {columns.count}")
    columns.check_varying(names)
    return columns


def standardize(chi: np.ndarray) -> Standardized:
    """Z-score the columns of (N, C) susceptibilities, then subtract every row's mean."""
    if chi.ndim != 2 or len(chi) == 0:
        raise UserError(f"susceptibilities: expected a table of rows and components, got shape {chi.shape}")
    fit = StandardizationAccumulator(chi.shape[1])
    for block in row_blocks(chi):
        fit.update(block)
    fitted = fit.result()
    return Standardized(fitted(chi), fitted.mean, fitted.std)
