"""How well a label tells a cluster's tokens from others: written from one half of the documents, tried on the other.

The trial is that of automated interpretability: half of it members, a quarter other uses of the very tokens the label
names, a quarter any other tokens. Its expected score is computed from counts instead of drawn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.report.statistics import Label

FOLDS = 2


@dataclass(frozen=True)
class Bigrams:
    """All rows of one fold by preceding and predicted token: `keys` ascending, preceding * vocabulary + predicted."""

    vocabulary: int
    rows: int
    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    targets: NDArray[np.int64]

    def of(self, targets: list[int]) -> int:
        """Rows whose predicted token is one of a few."""
        return sum(self.targets[target].item() for target in targets)

    def matching(self, targets: list[int], preceding: list[int]) -> int:
        """Rows whose predicted token is among `targets` and whose preceding one is among `preceding`, if any are."""
        if not preceding:
            return self.of(targets)
        wanted = np.array([before * self.vocabulary + target for before in preceding for target in targets], np.int64)
        place = np.minimum(np.searchsorted(self.keys, wanted), max(0, len(self.keys) - 1))
        return int(self.counts[place][self.keys[place] == wanted].sum()) if len(self.keys) else 0


class BigramCounter:
    """Adds blocks of rows up to `Bigrams`; memory grows with the pairs that occur, not with the rows."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._keys, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._targets = np.zeros(vocabulary, np.int64)

    def update(self, preceding: NDArray[np.int32], targets: NDArray[np.int32]) -> None:
        """Count one block of rows."""
        keys, counts = np.unique(preceding.astype(np.int64) * self._vocabulary + targets, return_counts=True)
        self._join(keys, counts)
        self._targets += np.bincount(targets, minlength=self._vocabulary)

    def merge(self, other: "BigramCounter") -> None:
        """Add the counts of another counter of the same vocabulary."""
        assert self._vocabulary == other._vocabulary
        self._join(other._keys, other._counts)
        self._targets += other._targets

    def _join(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        joined, inverse = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        weights = np.concatenate([self._counts, counts])
        self._keys, self._counts = joined, np.bincount(inverse, weights, minlength=len(joined)).astype(np.int64)

    def result(self) -> Bigrams:
        """The counts so far."""
        return Bigrams(self._vocabulary, int(self._targets.sum()), self._keys, self._counts, self._targets)


def among(values: NDArray[np.int64], few: list[int]) -> NDArray[np.bool_]:
    """Which values are one of a few."""
    found = values == few[0]
    for one in few[1:]:
        found |= values == one
    return found


def trial_score(
    label: Label, targets: NDArray[np.int64], preceding: NDArray[np.int64], everywhere: Bigrams
) -> float | None:
    """Expected share of right answers about the members given and tokens outside them; None without members.

    A label means the tokens that it names, after one that it names, if it names any.
    0.5 is what a label that says nothing reaches.
    """
    if not len(targets):
        return None
    named = among(targets, label.targets)
    meant = int(np.count_nonzero(named & among(preceding, label.preceding) if label.preceding else named))
    recall = meant / len(targets)
    others = everywhere.rows - len(targets)
    same = everywhere.of(label.targets) - int(np.count_nonzero(named))
    wrong = everywhere.matching(label.targets, label.preceding) - meant
    any_right = 1 - wrong / others if others else 1.0
    same_right = 1 - wrong / same if same else any_right
    return 0.5 * recall + 0.25 * same_right + 0.25 * any_right


def mean_score(scores: list[float | None]) -> float | None:
    """Over the folds that had members to try."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
