"""Leakage: do predictions lie closer to what they are made from than the susceptibilities they stand for?

Per part of the inputs, linear CKA (as published, and debiased) and the Jaccard index of nearest neighbours, between the
part and three sides: ground truth, prediction, and the prediction with its rows permuted. A *gap* is prediction less
truth, its interval paired over documents. Noise in the ground truth lowers its side and makes a gap where there is no
leakage; CKA can be freed of it. With X₁, X₂ the coordinates measured by either half of the draws, Y the part,

    truth without noise = mean_h CKA(X_h, Y) / sqrt(CKA(X₁, X₂))        (debiased throughout),

the CKA of the signal with Y: noise leaves HSIC(X_h, Y) alone, raises HSIC(X_h, X_h), and is not common to X₁ and X₂.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.neighbours import knn
from eval.bootstrap import Interval, bootstrap_mean, document_groups, jackknife_interval
from eval.config import LeakageConfig
from eval.jaccard import JaccardKNN, permute_rows
from eval.left_out import left_out

#: Descriptions laid beside one another: a part of the inputs, then the sides.
PART, TRUTH, PREDICTION, PERMUTED, FIRST, SECOND = range(6)
PAIRS = [(PART, TRUTH), (PART, PREDICTION), (PART, PERMUTED), (PART, FIRST), (PART, SECOND), (FIRST, SECOND)]
NAMES = ("truth", "prediction", "permuted")
NOISELESS, GAP, GAP_NOISELESS = "truth without noise", "gap", "gap without noise"


@dataclass(frozen=True)
class Sides:
    """What parts of the inputs are compared with, on the same N rows.

    Args:
        measured: Coordinates by halves (N, 2, P).
        predicted: Coordinates (N, P).
        documents: Of every row.
    """

    measured: np.ndarray
    predicted: np.ndarray
    documents: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        return self.measured.mean(axis=1)

    def permutation(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).permutation(len(self.documents))


class Comparison:
    """Compares one part of the inputs after another with the same sides, whose neighbours are found once."""

    def __init__(self, sides: Sides, config: LeakageConfig) -> None:
        self.sides, self.config = sides, config
        self.k = min(config.k, len(sides.documents) - 1)
        shuffled = sides.permutation(config.seed)
        self.described = [
            sides.truth, sides.predicted, sides.predicted[shuffled], sides.measured[:, 0], sides.measured[:, 1],
        ]  # fmt: skip
        near = [self.neighbours(side) for side in (sides.truth, sides.predicted)]
        self.near = dict(zip(NAMES, [*near, permute_rows(near[1], shuffled)], strict=True))
        groups = min(config.groups, len(np.unique(sides.documents)))
        self.groups = document_groups(sides.documents, groups, seed=config.seed)

    def neighbours(self, values: np.ndarray) -> np.ndarray:
        """Every pair is compared: a sample of `leakage.tokens` rows allows it."""
        return knn(values, self.k, search="exact").neighbours

    def rows(self, name: str, layer: int, values: np.ndarray) -> list[dict[str, Any]]:
        """All figures of one part (N, D)."""
        found = {**self.cka(values), **self.jaccard(values)}
        return [
            {"input": name, "layer": layer, "metric": metric, "versus": versus, **vars(interval)}
            for (metric, versus), interval in found.items()
        ]

    def cka(self, values: np.ndarray) -> dict[tuple[str, str], Interval]:
        plain, debiased = np.moveaxis(left_out([values, *self.described], self.groups, PAIRS), 2, 0)
        figures = {("cka", name): plain[:, i] for i, name in enumerate(NAMES)}
        figures["cka", GAP] = plain[:, PREDICTION - 1] - plain[:, TRUTH - 1]
        figures |= {("debiased cka", name): debiased[:, i] for i, name in enumerate(NAMES)}
        figures["debiased cka", GAP] = debiased[:, PREDICTION - 1] - debiased[:, TRUTH - 1]
        if (debiased[:, -1] > 0).all():  # otherwise the halves have nothing in common
            figures["debiased cka", NOISELESS] = debiased[:, 3:5].mean(axis=1) / np.sqrt(debiased[:, -1])
            noiseless = figures["debiased cka", NOISELESS]
            figures["debiased cka", GAP_NOISELESS] = debiased[:, PREDICTION - 1] - noiseless
        level = self.config.level
        return {key: jackknife_interval(found[0], found[1:], level=level) for key, found in figures.items()}

    def jaccard(self, values: np.ndarray) -> dict[tuple[str, str], Interval]:
        own = self.neighbours(values)
        overlaps = {name: JaccardKNN(self.k).update(own, near).result().values for name, near in self.near.items()}
        overlaps[GAP] = overlaps["prediction"] - overlaps["truth"]
        return {("jaccard", name): self.over_documents(overlap) for name, overlap in overlaps.items()}

    def over_documents(self, values: np.ndarray) -> Interval:
        config = self.config
        return bootstrap_mean(
            values, self.sides.documents, resamplings=config.bootstrap, level=config.level, seed=config.seed
        )
