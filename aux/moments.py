"""Streaming means, variances and covariances of rows, exact under merging.

Legend: N rows, D columns. Sums are float64 and always taken about the running mean, so that a large common offset
costs no digits; two parts are combined with the update of Chan, Golub and LeVeque (1983).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scale.errors import UserError

BLOCK_ROWS = 16384
#: A column whose standard deviation is below this share of its mean holds nothing but rounding.
CONSTANT_RTOL = 1e-10


def row_blocks(array: np.ndarray, rows: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
    """Consecutive row blocks of an array (memory-mapped or not), as views."""
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


class ColumnMoments:
    """Count, mean and summed squared deviation of every column."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.mean = np.zeros(columns)
        self.deviation = np.zeros(columns)

    def update(self, block: np.ndarray) -> ColumnMoments:
        """Add the rows of one (N, D) block."""
        assert block.shape[1:] == self.mean.shape, (block.shape, self.mean.shape)
        if len(block) == 0:
            return self
        part = ColumnMoments(len(self.mean))
        values = np.asarray(block, dtype=np.float64)
        part.count, part.mean = len(values), values.mean(axis=0)
        part.deviation = np.square(values - part.mean).sum(axis=0)
        return self.merge(part)

    def merge(self, other: ColumnMoments) -> ColumnMoments:
        """Add everything that `other` has seen."""
        assert len(self.mean) == len(other.mean), (len(self.mean), len(other.mean))
        total = self.count + other.count
        if other.count:
            offset = other.mean - self.mean
            self.deviation += other.deviation + np.square(offset) * (self.count * other.count / total)
            self.mean = self.mean + offset * (other.count / total)
            self.count = total
        return self

    def result(self) -> Columns:
        """Mean and population standard deviation of the rows seen."""
        assert self.count > 0, "no rows seen"
        return Columns(self.count, self.mean.copy(), np.sqrt(self.deviation / self.count))


@dataclass(frozen=True)
class Columns:
    """Count, means and population standard deviations (divided by N, not N - 1)."""

    count: int
    mean: np.ndarray
    std: np.ndarray

    def constant(self) -> np.ndarray:
        """Which columns do not vary beyond rounding."""
        return self.std <= CONSTANT_RTOL * np.abs(self.mean)

    def scale(self) -> np.ndarray:
        """What to divide by: the standard deviation, and 1 where the column is constant."""
        return np.where(self.constant(), 1.0, self.std)

    def check_varying(self, names: Sequence[str] | None = None) -> None:
        """Raise a `UserError` that names the columns that are not finite or do not vary."""
        finite = np.isfinite(self.mean) & np.isfinite(self.std)
        for wrong, what in ((~finite, "not finite"), (finite & self.constant(), "constant")):
            if wrong.any():
                columns = [f"{i} ({names[i]})" if names is not None else str(i) for i in np.flatnonzero(wrong).tolist()]
                shown = ", ".join(columns[:5]) + (f" and {len(columns) - 5} more" if len(columns) > 5 else "")
                raise UserError(f"susceptibilities: column {shown} is {what}; leave the component out")


class Moments:
    """Count, mean and scatter matrix (summed outer products about the mean)."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.mean = np.zeros(columns)
        self.scatter = np.zeros((columns, columns))

    def update(self, block: np.ndarray) -> Moments:
        """Add the rows of one (N, D) block."""
        assert block.shape[1:] == self.mean.shape, (block.shape, self.mean.shape)
        if len(block) == 0:
            return self
        part = Moments(len(self.mean))
        values = np.asarray(block, dtype=np.float64)
        part.count, part.mean = len(values), values.mean(axis=0)
        centred = values - part.mean
        part.scatter = centred.T @ centred
        return self.merge(part)

    def merge(self, other: Moments) -> Moments:
        """Add everything that `other` has seen."""
        assert len(self.mean) == len(other.mean), (len(self.mean), len(other.mean))
        total = self.count + other.count
        if other.count:
            offset = other.mean - self.mean
            self.scatter += other.scatter
            self.scatter += np.outer(offset, offset * (self.count * other.count / total))
            self.mean = self.mean + offset * (other.count / total)
            self.count = total
        return self

    def covariance(self) -> np.ndarray:
        """Population covariance, exactly symmetric."""
        assert self.count > 0, "no rows seen"
        return (self.scatter + self.scatter.T) / (2 * self.count)

    def columns(self) -> Columns:
        """Mean and population standard deviation of every column."""
        assert self.count > 0, "no rows seen"
        return Columns(self.count, self.mean.copy(), np.sqrt(np.diag(self.scatter) / self.count))
