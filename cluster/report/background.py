"""How often each predicted token, preceding token and source occurs in the whole clustered corpus."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Background:
    """Counts over every clustered row: by token id, by preceding token id, by source and by position."""

    rows: int
    targets: Counts
    preceding: Counts
    sources: Counts
    positions: Counts


class BackgroundCounter:
    """Adds blocks of rows up to a `Background`."""

    def __init__(self, vocabulary: int, sources: int, positions: int) -> None:
        self.sizes = (vocabulary, vocabulary, sources, positions)
        self._counts = [np.zeros(size, dtype=np.int64) for size in self.sizes]

    def update(
        self, targets: NDArray[np.int32], preceding: NDArray[np.int32], sources: NDArray[np.int32], positions: NDArray
    ) -> None:
        """Count one block of rows."""
        for counts, values in zip(self._counts, (targets, preceding, sources, positions), strict=True):
            counts += np.bincount(values, minlength=len(counts))

    def merge(self, other: "BackgroundCounter") -> None:
        """Add the counts of another counter of the same sizes."""
        assert self.sizes == other.sizes, (self.sizes, other.sizes)
        for mine, theirs in zip(self._counts, other._counts, strict=True):
            mine += theirs

    def result(self) -> Background:
        """The counts so far."""
        targets, preceding, sources, positions = (counts.copy() for counts in self._counts)
        return Background(int(targets.sum()), targets, preceding, sources, positions)
