"""Nearest neighbours in euclidean distance, with the share of true neighbours found.

X is (N, d), queries are (Q, d) or Q row numbers of X; distances and neighbours are (Q, k).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cluster.config import ClusterConfig, Method
from cluster.indexes import Index, ListIndex, QuantisedIndex, Wider, exact_index, graphics_processors, list_count
from cluster.ranking import rank_candidates
from cluster.recall import Recall, sample_of
from scale.errors import UserError

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]

#: Pairs times dimensions up to which every pair is compared, on one core and on one graphics processor: about a
#: minute, and half an hour.
EXACT_BUDGET, GRAPHICS_BUDGET = 1e12, 3e17
#: Candidates fetched beyond k and ranked again by exact distance, so that rounding at the k-th place decides nothing.
SPARE = 8
QUERY_BLOCK = 16384
#: A search for the number of lists to open ends when it is known to this factor.
CLOSE = 1.1


class Neighbours(NamedTuple):
    """Row i of `distances` (ascending, ties by number) and `neighbours` belongs to query i; `recall` is 1 if exact."""

    distances: npt.NDArray[np.float32]
    neighbours: npt.NDArray[np.int64]
    recall: float


class Found(NamedTuple):
    """Of all rows of X, and the recall of a sample of them."""

    distances: npt.NDArray[np.float32]
    neighbours: npt.NDArray[Any]
    recall: Recall


@dataclass(frozen=True)
class Search:
    """How neighbours are looked for: keys of `ClusterConfig`."""

    method: Method = ClusterConfig.search
    recall: float = ClusterConfig.recall
    probes: int | None = ClusterConfig.probes
    seed: int = ClusterConfig.seed

    @classmethod
    def of(cls, config: ClusterConfig) -> Search:
        return cls(config.search, config.recall, config.probes, config.seed)


#: Finds the k neighbours of all rows, here or by items of an engine.
Finder = Callable[[Array, int, Search], Found]


def knn(
    X: Array,
    k: int,
    *,
    queries: Array | None = None,
    recall: float = ClusterConfig.recall,
    search: Method = ClusterConfig.search,
    seed: int = ClusterConfig.seed,
) -> Neighbours:
    """The k nearest rows of X of every row of X, of some of its rows (integers), or of other vectors.

    A row is never its own neighbour; a duplicate of it can be. By default every pair is compared when N * Q * d is at
    most `EXACT_BUDGET`; beyond it points are sorted into lists, of which as many are opened as the asked `recall` needs
    on a sample of the queries.
    """
    points = checked_vectors(X, "X")
    rows, vectors = _queries(points, queries)
    check_k(k, len(points) - (rows is not None))
    index, reached = prepare(points, vectors, rows, k, Search(search, recall, seed=seed))
    return Neighbours(*search_blocks(index, points, vectors, rows, k), reached.total)


def find_neighbours(X: Array, k: int, search: Search) -> Found:
    """The k nearest other rows of every row of X."""
    points = checked_vectors(X, "X")
    rows = np.arange(len(points))
    check_k(k, len(points) - 1)
    index, reached = prepare(points, points, rows, k, search)
    return Found(*search_blocks(index, points, points, rows, k), reached)


def checked_vectors(X: Array, name: str) -> npt.NDArray[np.float32]:
    values = np.ascontiguousarray(X, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] == 0:
        raise UserError(f"{name} must be a table of vectors (rows, dimensions), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise UserError(f"{name} holds NaN or infinite values: drop those rows before looking for neighbours")
    return values


def check_k(k: int, others: int) -> None:
    if not 1 <= k <= others:
        raise UserError(f"k must be between 1 and {others}, the number of possible neighbours, got {k}")


def _queries(points: Array, queries: Array | None) -> tuple[Rows | None, Array]:
    """Row numbers of the queries in X (none if they are other vectors), and their vectors."""
    if queries is None:
        return np.arange(len(points)), points
    given = np.asarray(queries)
    if given.ndim == 1 and np.issubdtype(given.dtype, np.integer):
        if len(given) and not (given.min() >= 0 and given.max() < len(points)):
            raise UserError(f"queries must be row numbers from 0 to {len(points) - 1}")
        return given.astype(np.int64), points[given]
    vectors = checked_vectors(given, "queries")
    if vectors.shape[1] != points.shape[1]:
        raise UserError(f"queries have {vectors.shape[1]} dimensions and X has {points.shape[1]}")
    return None, vectors


def prepare(points: Array, vectors: Array, rows: Rows | None, k: int, search: Search) -> tuple[Index, Recall]:
    """An index that finds the asked share of the neighbours of these queries, and what it finds of a sample."""
    if search.method == "exact" or (search.method == "auto" and _affordable(points, len(vectors))):
        return exact_index(points), Recall.exact()
    make = QuantisedIndex if search.method == "quantised" else ListIndex
    index: Wider = make.of(points, list_count(len(points)), search.seed)
    sample = sample_of(len(vectors), search.seed)
    asking, itself = vectors[sample], None if rows is None else rows[sample]
    true = search_blocks(exact_index(points), points, asking, itself, k)[0]

    def measured(opened: int) -> Recall:
        found = search_blocks(index.wider(opened), points, asking, itself, k, complete=False)[0]
        return Recall.of(sample, true, found)

    opened, reached = _sufficient(measured, len(index), search)
    return index.wider(opened), reached


def _affordable(points: Array, queries: int) -> bool:
    graphics = graphics_processors()
    budget = GRAPHICS_BUDGET * graphics if graphics else EXACT_BUDGET
    return float(len(points)) * queries * points.shape[1] <= budget


def _sufficient(measured: Callable[[int], Recall], lists: int, search: Search) -> tuple[int, Recall]:
    """The number of lists to open: doubled until recall suffices, then narrowed down."""
    if search.probes is not None:
        return _refused(min(search.probes, lists), measured(min(search.probes, lists)), search)
    below, opened = 1, 1
    while (reached := measured(opened)).least < search.recall:
        if opened == lists:
            return _refused(opened, reached, search)
        below, opened = opened, min(2 * opened, lists)
    while opened > below + 1 and opened > CLOSE * below:
        middle = (below + opened) // 2
        tried = measured(middle)
        if tried.least >= search.recall:
            opened, reached = middle, tried
        else:
            below = middle
    return opened, reached


def _refused(opened: int, reached: Recall, search: Search) -> tuple[int, Recall]:
    """As given, unless its recall is too low."""
    if reached.least >= search.recall:
        return opened, reached
    parts = f"{reached.total:.3f} (densest tenth {reached.dense:.3f}, sparsest {reached.sparse:.3f})"
    remedy = "set cluster.search to lists" if search.probes is None else "raise cluster.probes or leave it null"
    raise UserError(f"cluster.recall {search.recall} is out of reach of this search, which finds {parts}: {remedy}")


def search_blocks(
    index: Index, points: Array, vectors: Array, rows: Rows | None, k: int, complete: bool = True
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Neighbours of queries, block by block, in all of this machine's threads; infinitely far where none was found."""
    distances = np.full((len(vectors), k), np.inf, np.float32)
    neighbours = np.full((len(vectors), k), -1, np.int64)
    whole = rows is not None and vectors is points
    turn = index.order if whole else np.arange(len(vectors))

    def block(start: int) -> int:
        chosen = turn[start : start + QUERY_BLOCK]
        found = search_block(index, points, vectors[chosen], None if rows is None else rows[chosen], k)
        distances[chosen], neighbours[chosen], short = found
        return short

    starts = range(0, len(vectors), QUERY_BLOCK)
    if index.one_by_one:
        short = sum(map(block, starts))
    else:
        with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            short = sum(pool.map(block, starts))
    if short and complete:
        raise UserError(f"the approximate search found fewer than {k} neighbours of {short} points: search exactly")
    return distances, neighbours


def search_block(
    index: Index, points: Array, queries: Array, itself: Rows | None, k: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
    """Distances and neighbours ranked by (distance, number), the query itself left out, and how many queries have
    too few."""
    count = min(k + (itself is not None) + SPARE, len(points))
    distances = np.full((len(queries), k), np.inf, np.float32)
    neighbours = np.full((len(queries), k), -1, np.int64)
    own = np.full(len(queries), -1) if itself is None else itself
    candidates = index.candidates(queries, count)
    short = rank_candidates(points, queries, own, candidates, distances, neighbours)
    return distances, neighbours, short
