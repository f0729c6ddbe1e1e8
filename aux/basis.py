"""The basis in which susceptibilities are predicted: principal components of standardised susceptibilities.

One pass is enough. With R the correlation matrix of the C columns and H = I - 11ᵀ/C the centring of a row, z-scored and
then row-centred vectors have covariance H R H, so that the covariance of the raw rows already determines the basis.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aux.moments import Moments
from aux.standardize import Standardization, checked
from scale.errors import UserError
from scale.store import written

BASIS_FILE = "basis.safetensors"
#: Columns whose correlation falls short of 1 by less are one column: their z-scores differ by a thousandth.
SAME = 1e-6


@dataclass(frozen=True)
class Basis:
    """A frozen basis of P directions over C components.

    `variances` are those of the coordinates over the rows it was fitted on; `explained` are their shares of the whole
    variance of the standardised rows, the directions left out included.
    """

    components: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    explained: np.ndarray

    def coordinates(self, chi: np.ndarray) -> np.ndarray:
        """Coordinates (N, P), float64, of raw susceptibilities (N, C)."""
        return Standardization(self.mean, self.std)(chi) @ self.directions

    def reconstruct(self, coordinates: np.ndarray) -> np.ndarray:
        """Back to components: standardised susceptibilities (N, C) at the given coordinates (N, P).

        What standardising took from each row, its mean, is in no coordinate and does not come back.
        """
        return np.asarray(coordinates, dtype=np.float64) @ self.directions.T

    def to_tensors(self) -> dict[str, np.ndarray]:
        """The arrays, by name."""
        names = ("mean", "std", "directions", "variances", "explained")
        return {name: np.ascontiguousarray(getattr(self, name)) for name in names}

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], components: Sequence[str]) -> Basis:
        """The basis that `to_tensors` was called on."""
        return cls(tuple(components), **tensors)

    def save(self, folder: Path) -> None:
        """Write `basis.safetensors`, the component names in its header."""
        from safetensors.numpy import save_file

        with written(folder / BASIS_FILE) as temporary:
            save_file(self.to_tensors(), temporary, metadata={"components": json.dumps(self.components)})

    @classmethod
    def load(cls, folder: Path) -> Basis:
        """Read what `save` wrote."""
        return cls.from_tensors(*_read(folder / BASIS_FILE))


def _read(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a file and the component names in its header."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return tensors, json.loads(file.metadata()["components"])


class BasisAccumulator:
    """Raw susceptibilities in blocks, to a `Basis`."""

    def __init__(self, components: Sequence[str]) -> None:
        self.components = tuple(components)
        self.moments = Moments(len(self.components))

    def update(self, chi: np.ndarray) -> BasisAccumulator:
        """Add the rows of one (N, C) block of raw susceptibilities."""
        self.moments.update(chi)
        return self

    def merge(self, other: BasisAccumulator) -> BasisAccumulator:
        """Add everything that `other` has seen."""
        assert self.components == other.components, "accumulators of different components"
        self.moments.merge(other.moments)
        return self

    def save(self, path: Path) -> None:
        """Write everything seen so far, so that another process can go on from it or merge it."""
        from safetensors.numpy import save_file

        count = np.array([self.moments.count], dtype=np.int64)
        tensors = {"count": count, "mean": self.moments.mean, "scatter": self.moments.scatter}
        with written(path) as temporary:
            save_file(tensors, temporary, metadata={"components": json.dumps(self.components)})

    @classmethod
    def load(cls, path: Path) -> BasisAccumulator:
        """Read what `save` wrote."""
        tensors, components = _read(path)
        found = cls(components)
        found.moments.count = int(tensors["count"][0])
        found.moments.mean, found.moments.scatter = tensors["mean"], tensors["scatter"]
        return found

    def duplicates(self) -> list[tuple[str, ...]]:
        """Groups of components whose z-scores are the same on every row.

        In the centring of rows and in the principal directions such a group weighs as much as its size, as if it were
        so many components.
        """
        same = self._correlation() >= 1 - SAME
        first = same.argmax(axis=1)
        groups = [np.flatnonzero(first == leader) for leader in np.unique(first)]
        return [tuple(self.components[i] for i in group) for group in groups if len(group) > 1]

    def _correlation(self) -> np.ndarray:
        std = checked(self.moments.columns(), self.components).std
        return self.moments.covariance() / np.outer(std, std)

    def result(self, *, pcs: int | None = None, explained: float = 1.0) -> Basis:
        """The basis: the first `pcs` directions, or as many as explain the share `explained` of the variance.

        Directions without variance (row centring always makes one, duplicate columns make more) are never kept.
        """
        columns = self.moments.columns()
        variances, directions = _eigen_descending(_centre_rows_and_columns(self._correlation()))
        shares = variances / variances.sum()
        kept = _how_many(shares, pcs, explained)
        return Basis(self.components, columns.mean, columns.std, directions[:, :kept], variances[:kept], shares[:kept])


def _centre_rows_and_columns(matrix: np.ndarray) -> np.ndarray:
    """H M H with H = I - 11ᵀ/C."""
    half = matrix - matrix.mean(axis=0, keepdims=True)
    return half - half.mean(axis=1, keepdims=True)


def _eigen_descending(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenpairs by falling eigenvalue, without those that are zero to rounding, signs fixed."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    order = np.argsort(-values, kind="stable")
    values, vectors = values[order], vectors[:, order]
    # The matrix was made from a correlation matrix, whose trace is the number of columns: that sets the rounding.
    real = values > 8 * np.finfo(np.float64).eps * len(values) ** 2
    if not real.any():
        raise UserError("susceptibilities: all components respond alike, nothing is left after centring the rows")
    return values[real], vectors[:, real] * _signs(vectors[:, real])


def _signs(vectors: np.ndarray) -> np.ndarray:
    """Signs that make each column's largest entry positive; of entries equal to rounding, the first decides."""
    size = np.abs(vectors)
    leading = np.argmax(size >= size.max(axis=0) * (1 - 1e-6), axis=0)
    return np.sign(vectors[leading, np.arange(vectors.shape[1])])


def _how_many(shares: np.ndarray, pcs: int | None, explained: float) -> int:
    """How many of the directions to keep."""
    if pcs is None:
        reached = np.cumsum(shares) >= explained - 1e-12
        return int(np.argmax(reached)) + 1 if reached.any() else len(shares)
    if pcs > len(shares):
        raise UserError(f"aux.pcs is {pcs}, but the susceptibilities only have {len(shares)} independent directions")
    return pcs
