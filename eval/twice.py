"""Figures taken twice: within shared draws, and across independent draws.

The finite-draw error of a susceptibility is a random projection of the token's gradients. Tokens measured at the same
draws share the projection, so that similar gradients have similar errors: neighbours and clusters form in the error
alone. Two halves of the draws share nothing. A figure *within* compares tokens measured by one half; *across*, tokens
measured by the first with tokens measured by the second; what is left of it there is no error of the draws.

Legend: N tokens, P coordinates, k neighbours, C clusters. `halves` is (N, 2, P).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.neighbours import knn
from eval.bootstrap import Interval, bootstrap_mean, document_groups
from eval.config import LeakageConfig
from scale.errors import UserError

#: Half of the queries and half of the candidates.
WITHIN, ACROSS = ((0, 0), (1, 1)), ((0, 1), (1, 0))
#: Share of all tokens below which a target token counts as rare.
RARE = 0.005
QUERY_BLOCK = 1024


@dataclass(frozen=True)
class Twice:
    """One figure, and what it would be by chance."""

    within: Interval
    across: Interval
    chance: float


def whitened(halves: np.ndarray) -> np.ndarray:
    """Every coordinate of either half centred, and scaled to unit variance of both halves' mean; float32.

    What a half adds to all tokens alike separates no token from another.
    """
    scale = halves.mean(axis=1).std(axis=0)
    found: np.ndarray = (halves - halves.mean(axis=0)) / np.where(scale > 0, scale, 1)
    return found.astype(np.float32)


def in_other_documents(points: np.ndarray, asking: np.ndarray, documents: np.ndarray, k: int) -> np.ndarray:
    """The k nearest `points` (N, P) to every row of `asking` (N, P) outside the row's document."""
    longest = int(np.unique(documents, return_counts=True)[1].max())
    if len(points) - longest < k:
        raise UserError(
            f"leakage.neighbours: {len(points)} held-out tokens are too few for {k} neighbours in other documents; "
            "lower it or raise corpus.heldout_contexts"
        )
    found = np.full((len(asking), k), -1)
    left = np.arange(len(asking))
    for asked in (4 * k, k + longest):  # few queries need more than the first
        for start in range(0, len(left), QUERY_BLOCK):
            rows = left[start : start + QUERY_BLOCK]
            near = knn(points, min(asked, k + longest), queries=asking[rows], search="exact").neighbours
            own = documents[near] == documents[rows, None]
            order = np.argsort(own, axis=1, kind="stable")[:, :k]  # the others first, nearest first
            enough = ~np.take_along_axis(own, order[:, -1:], axis=1)[:, 0]
            found[rows[enough]] = np.take_along_axis(near, order, axis=1)[enough]
        left = np.flatnonzero(found[:, 0] < 0)
    return found


@dataclass(frozen=True)
class Neighbours:
    """Of every token (N, k), in other documents, by half of the query and half of the candidates."""

    lists: dict[tuple[int, int], np.ndarray]
    documents: np.ndarray

    @classmethod
    def of(cls, halves: np.ndarray, documents: np.ndarray, k: int = LeakageConfig.neighbours) -> Neighbours:
        placed = whitened(halves)
        lists = {
            (asking, among): in_other_documents(np.ascontiguousarray(placed[:, among]), placed[:, asking], documents, k)
            for asking, among in (*WITHIN, *ACROSS)
        }
        return cls(lists, documents)

    def same(self, classes: np.ndarray, of: np.ndarray, config: LeakageConfig) -> Twice | None:
        """Share of the neighbours in the query's class, of the queries `of` (a mask); None if there are none.

        By chance it is the share of all tokens that are in it.
        """
        if not of.any():
            return None
        _, slot, counts = np.unique(classes, return_inverse=True, return_counts=True)

        def share(pairs: Sequence[tuple[int, int]]) -> Interval:
            found = [(slot[self.lists[pair][of]] == slot[of, None]).mean(axis=1) for pair in pairs]
            return bootstrap_mean(
                np.mean(found, axis=0), self.documents[of],
                resamplings=config.bootstrap, level=config.level, seed=config.seed,
            )  # fmt: skip

        return Twice(share(WITHIN), share(ACROSS), float((counts / len(classes))[slot[of]].mean()))


def rare(tokens: np.ndarray) -> np.ndarray:
    """Which rows have a target token that is rarer than `RARE`."""
    _, slot, counts = np.unique(tokens, return_inverse=True, return_counts=True)
    rows: np.ndarray = (counts < RARE * len(tokens))[slot]
    return rows


def separations(halves: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far every cluster 0 ... C-1 lies from the rest: squared, as measured, and the part both halves share.

    With Δ_h the cluster's mean less the mean of all tokens, measured by half h and whitened, |(Δ₀ + Δ₁)/2|² less
    |(Δ₀ - Δ₁)/2|², the split-half noise in it, is Δ₀·Δ₁. NaN for clusters without a member.
    """
    placed = whitened(halves).astype(np.float64)
    offsets = cluster_means(placed.reshape(len(placed), -1), labels) - placed.reshape(len(placed), -1).mean(axis=0)
    first, second = np.split(offsets, 2, axis=1)
    return np.square((first + second) / 2).sum(axis=1), (first * second).sum(axis=1)


def cluster_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C, D) of the rows of each cluster; NaN for clusters without one."""
    inside = labels >= 0
    count = int(labels.max(initial=-1)) + 1
    sums, sizes = np.zeros((count, values.shape[1])), np.bincount(labels[inside], minlength=count)
    np.add.at(sums, labels[inside], values[inside])
    return np.divide(sums, sizes[:, None], out=np.full_like(sums, np.nan), where=sizes[:, None] > 0)


@dataclass(frozen=True)
class FoundAgain:
    """Per cluster: how often it was told from the others. NaN where it has too few members to be looked for.

    Args:
        within, across: Rates (C,).
        chance: One in the number of clusters that were looked for.
    """

    within: np.ndarray
    across: np.ndarray
    chance: float

    def summary(self, config: LeakageConfig) -> Twice | None:
        """Mean over clusters, resampling clusters; None if there are fewer than two to tell apart."""
        looked_for = ~np.isnan(self.within)
        if looked_for.sum() < 2:
            return None
        within, across = (over_clusters(rates[looked_for], config) for rates in (self.within, self.across))
        return Twice(within, across, self.chance)


def over_clusters(values: np.ndarray, config: LeakageConfig) -> Interval:
    """Mean of one value per cluster; clusters are resampled."""
    return bootstrap_mean(
        values, np.arange(len(values)), resamplings=config.bootstrap, level=config.level, seed=config.seed
    )


def found_again(
    halves: np.ndarray,
    labels: np.ndarray,
    documents: np.ndarray,
    config: LeakageConfig,
    within: Sequence[tuple[int, int]] = WITHIN,
) -> FoundAgain:
    """Is a cluster's mean, in one half of the documents, nearest to its own mean in the other half of the documents?

    Nearest by the cosine of whitened offsets from the mean of all, among the means of all clusters; measured by the
    same half of the draws (`within` says which) or by the other. Over `config.splits` random halves of the documents.
    This asks not how close a cluster is but whether clusters are told from each other, which needs no model of the
    error: directions that the draws made up differ between the halves.
    """
    placed, count = whitened(halves), int(labels.max(initial=-1)) + 1
    hits, looks = np.zeros((2, count)), np.zeros((2, count))
    for split in range(config.splits if len(np.unique(documents)) > 1 else 0):
        side = document_groups(documents, 2, seed=config.seed * config.splits + split) == 0
        means = {
            (part, half): _offsets(placed[:, half], labels, rows, config.min_members)
            for part, rows in enumerate((side, ~side))
            for half in range(2)
        }
        for figure, pairs in enumerate((within, ACROSS)):
            for one, other in pairs:
                _count_hits(means[0, one], means[1, other], hits[figure], looks[figure])
                _count_hits(means[1, other], means[0, one], hits[figure], looks[figure])
    rates = np.divide(hits, looks, out=np.full_like(hits, np.nan), where=looks > 0)
    return FoundAgain(rates[0], rates[1], 1 / max(1, int((looks[0] > 0).sum())))


def shared_signal(halves: np.ndarray, *, permutations: int = 999, seed: int = LeakageConfig.seed) -> float:
    """p-value (one-sided) that the halves agree coordinate by coordinate no more than with coordinates exchanged.

    Over shared draws every token's error is one projection of its gradients, and whatever is summed over tokens, such
    as the dispersion across halves, is off zero by one random number for all of them: no number of tokens tells it from
    signal. Independent coordinates do, as repeats of that number.
    """
    placed = whitened(halves).astype(np.float64)
    placed /= np.linalg.norm(placed, axis=0)
    between = placed[:, 0].T @ placed[:, 1]
    rng, own = np.random.default_rng(seed), np.arange(len(between))
    exchanged = [between[own, rng.permutation(len(own))].sum() for _ in range(permutations)]
    return float((1 + (np.array(exchanged) >= np.trace(between)).sum()) / (1 + permutations))


def _offsets(values: np.ndarray, labels: np.ndarray, rows: np.ndarray, min_members: int) -> np.ndarray:
    """Unit vectors (C, P) from the mean of some rows to those of their clusters; NaN where members are too few."""
    count, own = int(labels.max(initial=-1)) + 1, labels[rows]
    means = np.full((count, values.shape[1]), np.nan)
    found = cluster_means(values[rows].astype(np.float64), own)
    means[: len(found)] = found
    sizes = np.bincount(own[own >= 0], minlength=count)
    means[sizes < max(1, min_members // 2)] = np.nan
    offsets = means - values[rows].mean(axis=0)
    return offsets / np.linalg.norm(offsets, axis=1, keepdims=True)


def _count_hits(one: np.ndarray, other: np.ndarray, hits: np.ndarray, looks: np.ndarray) -> None:
    both = np.flatnonzero(~np.isnan(one[:, 0]) & ~np.isnan(other[:, 0]))
    if len(both) > 1:
        nearest = (one[both] @ other[both].T).argmax(axis=1)
        hits[both] += nearest == np.arange(len(both))
        looks[both] += 1
