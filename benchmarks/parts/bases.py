"""Principal components of a part of χ, and those of another: how well they are measured, how much they share.

X is (rows, C), one half of the draws; a basis standardises as the aux stage does (z-scored columns, centred rows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aux.basis import Basis, BasisAccumulator
from scale.chi.estimate import column_correlation, reliability

#: The leading directions that subspaces are compared in.
LEADING = 10
EXPLAINED = 0.95
#: Most noise that `levelled` adds, and its halvings of the interval in between.
MOST_NOISE = 64.0
HALVINGS = 10


def fit(X: np.ndarray, components: Sequence[str], explained: float = 1.0) -> Basis:
    return BasisAccumulator(components).update(X).result(explained=explained)


@dataclass(frozen=True)
class Measurement:
    """How well one part is measured.

    Args:
        reliability: Median over columns of Spearman and Brown's, of both halves together.
        pcs: Principal components that hold `EXPLAINED` of the variance of both halves together.
        leading: Correlation of the halves' coordinates, by PC; the basis fitted on one half, mean of both choices.
    """

    reliability: float
    pcs: int
    leading: list[float]

    @property
    def mean_leading(self) -> float:
        return float(np.mean(self.leading[:LEADING]))


def measurement(halves: np.ndarray, components: Sequence[str]) -> Measurement:
    """Of ``halves`` (rows, 2, C)."""
    correlations = []
    for half in range(2):
        basis = fit(halves[:, half], components)
        own, other = (basis.coordinates(halves[:, side]) for side in (half, 1 - half))
        correlations.append(column_correlation(own, other))
    width = min(map(len, correlations))
    return Measurement(
        float(np.nanmedian(reliability(halves))),
        len(fit(halves.mean(axis=1), components, EXPLAINED).variances),
        np.mean([one[:width] for one in correlations], axis=0).tolist(),
    )


def levelled(halves: np.ndarray, components: Sequence[str], level: float, seed: int) -> np.ndarray:
    """The part as if it were measured worse: its leading PCs correlate by ``level`` between the halves, or less.

    Gaussian noise is added, another in each half and token, in units of the columns' standard deviations.
    """
    noise = np.random.default_rng(seed).normal(size=halves.shape) * halves.std(axis=(0, 1))

    def above(amount: float) -> bool:
        return measurement(halves + amount * noise, components).mean_leading > level

    if not above(0.0):
        return halves
    low, high = 0.0, 1.0
    while above(high) and high < MOST_NOISE:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return halves + high * noise


def share_within(inner: Basis, outer: Basis, leading: int = LEADING) -> float:
    """Share of the variance of ``inner``'s rows in the leading directions of ``outer``; both fitted in full."""
    within = outer.directions[:, :leading].T @ inner.directions
    return float((np.square(within) @ inner.variances).sum() / inner.variances.sum())


def shared_variance(
    parts: Mapping[str, np.ndarray], components: Sequence[str], seed: int, leading: int = LEADING
) -> tuple[dict[tuple[str, str], float], float]:
    """`share_within` of every pair of parts, of other halves; and the most that columns torn apart leave of it.

    A part against itself is what its noise allows at best. Columns whose rows are permuted one by one have no common
    directions but by chance: what is left is the share of any ``leading`` directions.
    """
    bases = {name: [fit(halves[:, half], components) for half in range(2)] for name, halves in parts.items()}
    pairs = {
        (one, two): float(np.mean([share_within(bases[one][h], bases[two][1 - h], leading) for h in range(2)]))
        for one in parts
        for two in parts
    }
    rng = np.random.default_rng(seed)
    torn = [fit(rng.permuted(halves[:, 1], axis=0), components) for halves in parts.values()]
    chance = max(share_within(bases[one][0], basis, leading) for one in parts for basis in torn)
    return pairs, chance
