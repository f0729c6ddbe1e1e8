"""Nearest neighbours in a part of χ: of tokens measured in one half of the draws, among tokens of other documents
measured in the other half. Q queries, k neighbours.

Within one half, what draws have in common makes neighbours of tokens with similar gradients, whatever the tokens are;
across halves only what is measured again does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from benchmarks.parts.bases import EXPLAINED, fit
from cluster.neighbours import knn
from eval.bootstrap import Interval, bootstrap_mean
from eval.jaccard import jaccard_rows
from scale.chi.estimate import column_correlation
from scale.errors import UserError

Metric = Literal["cosine", "euclidean", "whitened", "signal"]
METRICS: tuple[Metric, ...] = get_args(Metric)
K = 15
#: Share of all tokens below which a target token counts as rare.
RARE = 0.005
QUERY_BLOCK = 1024
#: Half of the queries and half of the candidates.
ACROSS, WITHIN = ((0, 1), (1, 0)), ((0, 0), (1, 1))


def vectors(halves: np.ndarray, half: int, components: Sequence[str], metric: Metric) -> np.ndarray:
    """Both halves (rows, 2, P) in the basis of one, float32, such that euclidean distance orders by ``metric``.

    `signal` scales each PC to reliability times variance, the reliability being the correlation of the halves.
    """
    basis = fit(halves[:, half], components, EXPLAINED)
    coordinates = np.stack([basis.coordinates(halves[:, side]) for side in range(2)], axis=1)
    if metric == "whitened":
        coordinates /= np.sqrt(basis.variances)
    elif metric == "signal":
        coordinates *= np.sqrt(np.maximum(column_correlation(coordinates[:, 0], coordinates[:, 1]), 0))
    elif metric == "cosine":
        lengths = np.linalg.norm(coordinates, axis=2, keepdims=True)
        coordinates = np.divide(coordinates, lengths, out=np.zeros_like(coordinates), where=lengths > 0)
    return coordinates.astype(np.float32)


def in_other_documents(
    points: np.ndarray, asking: np.ndarray, queries: np.ndarray, documents: np.ndarray, k: int = K
) -> np.ndarray:
    """The k nearest ``points`` to ``asking`` (Q), the vectors of rows ``queries``, outside each query's document."""
    longest = int(np.unique(documents, return_counts=True)[1].max())
    if len(points) - longest < k:
        raise UserError(
            f"{len(points)} tokens are too few for {k} neighbours in other documents; measure more documents"
        )
    found = []
    for start in range(0, len(queries), QUERY_BLOCK):
        block = slice(start, start + QUERY_BLOCK)
        near = knn(points, k + longest, queries=asking[block], search="exact").neighbours
        own = documents[near] == documents[queries[block]][:, None]
        order = np.argsort(own, axis=1, kind="stable")[:, :k]  # the others first, nearest first
        found.append(np.take_along_axis(near, order, axis=1))
    return np.concatenate(found)


@dataclass(frozen=True)
class Neighbours:
    """Of every query, (Q, k): by half of the query and half of the candidates."""

    queries: np.ndarray
    lists: dict[tuple[int, int], np.ndarray]


def find(
    halves: np.ndarray,
    components: Sequence[str],
    documents: np.ndarray,
    queries: np.ndarray,
    metric: Metric,
    k: int = K,
) -> Neighbours:
    """Across halves and within them, in the basis of the query's half."""
    lists = {}
    for asking in range(2):
        placed = vectors(halves, asking, components, metric)
        for among in range(2):
            points = np.ascontiguousarray(placed[:, among])
            lists[asking, among] = in_other_documents(points, placed[queries, asking], queries, documents, k)
    return Neighbours(queries, lists)


def rare(tokens: np.ndarray) -> np.ndarray:
    """Which rows have a target token that is rarer than `RARE`."""
    _, slot, counts = np.unique(tokens, return_inverse=True, return_counts=True)
    return (counts < RARE * len(tokens))[slot]


def same(found: Neighbours, labels: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Share of each query's neighbours that have its label (Q), mean over pairs of halves."""
    wanted = labels[found.queries][:, None]
    return np.mean([(labels[found.lists[pair]] == wanted).mean(axis=1) for pair in pairs], axis=0)


@dataclass(frozen=True)
class SameTarget:
    """Share of the neighbours with the query's target token: across halves, within one, and of permuted candidates."""

    across: Interval
    within: Interval
    permuted: float


def same_target(
    found: Neighbours, tokens: np.ndarray, documents: np.ndarray, seed: int
) -> dict[str, SameTarget | None]:
    """Of all queries, and of those whose token is rare; None if there are none of those."""
    across, within = (same(found, tokens, pairs) for pairs in (ACROSS, WITHIN))
    wrong = same(permuted_candidates(found, len(tokens), seed), tokens, ACROSS)
    few, own = rare(tokens)[found.queries], documents[found.queries]
    return {
        "all": same_target_of(across, within, wrong, own),
        "rare": same_target_of(across[few], within[few], wrong[few], own[few]),
    }


def same_target_of(
    across: np.ndarray, within: np.ndarray, wrong: np.ndarray, documents: np.ndarray
) -> SameTarget | None:
    if len(across) == 0:
        return None
    return SameTarget(bootstrap_mean(across, documents), bootstrap_mean(within, documents), float(wrong.mean()))


def permuted_candidates(found: Neighbours, rows: int, seed: int) -> Neighbours:
    """The control: every candidate replaced by that of one permutation of all rows."""
    permutation = np.random.default_rng(seed).permutation(rows)
    return Neighbours(found.queries, {pair: permutation[near] for pair, near in found.lists.items()})


def lift(found: Neighbours, classes: np.ndarray, documents: np.ndarray, number: int) -> Interval | None:
    """Share of the neighbours across halves, of queries of a class, in that class; over its share of all tokens.

    None where no query is of the class.
    """
    chosen = classes[found.queries] == number
    if not chosen.any():
        return None
    shares = same(found, classes, ACROSS)[chosen] / (classes == number).mean()
    return bootstrap_mean(shares, documents[found.queries][chosen])


def overlap(one: Neighbours, two: Neighbours, pairs: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> float:
    """Mean Jaccard index of the neighbours of the same queries."""
    return float(np.mean([jaccard_rows(one.lists[a], two.lists[b]).mean() for a, b in pairs]))


def overlaps(found: Mapping[str, Neighbours], seed: int) -> tuple[dict[tuple[str, str], dict[str, float]], float]:
    """Of every two parts: across halves, where no draw is common to both lists, and within one, where all are.

    A token asked in the first half among the second, and asked in the second among the first, is measured twice, and
    so are its candidates: a part against itself across halves is what its noise allows. And the same by chance: the
    lists of other queries.
    """
    independent = [((0, 1), (1, 0)), ((1, 0), (0, 1))]
    values = {
        (one, two): {
            "across": overlap(found[one], found[two], independent),
            "within": overlap(found[one], found[two], [(pair, pair) for pair in WITHIN]),
        }
        for one in found
        for two in found
    }
    rng = np.random.default_rng(seed)
    chance = [
        jaccard_rows(one.lists[0, 1], one.lists[1, 0][rng.permutation(len(one.queries))]).mean()
        for one in found.values()
    ]
    return values, float(np.max(chance))
