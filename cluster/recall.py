"""How many of the true neighbours a search finds, on a random sample of its queries: of all of them, and by density.

A search that loses the neighbours of small dense groups loses the groups, and one that loses those of the cloud around
them changes what is held against the null; a mean hides either. Before clusters are known, density stands for them:
the exact distance of the k-th neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

#: Queries on which recall is measured, and the share of them that is densest, and sparsest.
SAMPLE = 1000
EXTREME = 0.1


@dataclass(frozen=True)
class Recall:
    """Of every query of the sample; of none if every pair was compared.

    Args:
        rows: Which queries they are, ascending.
        reach: Distance of the k-th true neighbour.
        found: Share of the k neighbours found that lie no farther: other points at the same distance are as true.
    """

    rows: npt.NDArray[np.int64]
    reach: npt.NDArray[np.float32]
    found: npt.NDArray[np.float64]

    @classmethod
    def exact(cls) -> Recall:
        return cls(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0))

    @classmethod
    def of(cls, rows: npt.NDArray[np.int64], true: npt.NDArray[Any], found: npt.NDArray[Any]) -> Recall:
        """From the sorted distances (sample, k) of true neighbours and of those found, infinite where none was."""
        reach = true[:, -1]
        return cls(rows, reach, (found <= reach[:, None]).mean(axis=1))

    @property
    def total(self) -> float:
        return _mean(self.found)

    @property
    def dense(self) -> float:
        """Of the tenth whose k-th neighbour is nearest."""
        return _mean(self.found[self._by_reach[: self._extreme]])

    @property
    def sparse(self) -> float:
        """Of the tenth whose k-th neighbour is farthest."""
        return _mean(self.found[self._by_reach[len(self.rows) - self._extreme :]])

    @property
    def least(self) -> float:
        return min(self.total, self.dense, self.sparse)

    def inside(self, chosen: npt.NDArray[np.bool_]) -> float | None:
        """Of the chosen points, one value for each row of X; None if the sample holds none of them."""
        if len(self.rows) == 0:
            return 1.0
        found = self.found[chosen[self.rows]]
        return float(found.mean()) if len(found) else None

    def table(self) -> pl.DataFrame:
        return pl.DataFrame({"row": self.rows, "reach": self.reach, "found": self.found})

    @property
    def _by_reach(self) -> npt.NDArray[np.int64]:
        return np.argsort(self.reach, kind="stable")

    @property
    def _extreme(self) -> int:
        return max(1, round(EXTREME * len(self.rows))) if len(self.rows) else 0


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 1.0


def sample_of(queries: int, seed: int) -> npt.NDArray[np.int64]:
    """Numbers of the queries that recall is measured on, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(queries)[:SAMPLE])
