"""Nearest neighbours in euclidean distance, with the share of true neighbours found.

X is (N, d), queries are (Q, d) or Q row numbers of X; distances and neighbours are (Q, k).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from cluster.config import ClusterConfig
from cluster.faiss_library import library
from scale.errors import UserError

Array = npt.NDArray[Any]
Search = Callable[[Array, int], Array]

#: Pairs times dimensions up to which every pair is compared: about a quarter of an hour on one core.
EXACT_BUDGET = 1e13
#: Candidates fetched beyond k and ranked again by exact distance, so that rounding at the k-th place decides nothing.
SPARE = 8
#: Queries on which the recall of an approximate search is measured.
RECALL_SAMPLE = 1000
QUERY_BLOCK = 16384


class Neighbours(NamedTuple):
    """Row i of `distances` (ascending, ties by number) and `neighbours` belongs to query i; `recall` is 1 if exact."""

    distances: npt.NDArray[np.float32]
    neighbours: npt.NDArray[np.int64]
    recall: float


def knn(
    X: Array,
    k: int,
    *,
    queries: Array | None = None,
    recall: float = ClusterConfig.recall,
    exact: bool | None = None,
    seed: int = ClusterConfig.seed,
) -> Neighbours:
    """The k nearest rows of X of every row of X, of some of its rows (integers), or of other vectors.

    A row is never its own neighbour; a duplicate of it can be. Every pair is compared when N * Q * d is at most
    `EXACT_BUDGET`; beyond it an inverted file is searched, wide enough for the asked `recall` on a sample of the
    queries. `exact` overrides that rule.
    """
    points = _vectors(X, "X")
    rows, vectors = _queries(points, queries)
    others = len(points) - (rows is not None)
    if not 1 <= k <= others:
        raise UserError(f"k must be between 1 and {others}, the number of possible neighbours, got {k}")
    compare_all = float(len(points)) * len(vectors) * points.shape[1] <= EXACT_BUDGET if exact is None else exact
    count = min(k + (rows is not None) + SPARE, len(points))
    if compare_all:
        return Neighbours(*_ranked(points, vectors, rows, k, count, _exact_search(points)), 1.0)
    search, reached = _sufficient_search(points, vectors, k, count, recall, seed)
    return Neighbours(*_ranked(points, vectors, rows, k, count, search), reached)


def _vectors(X: Array, name: str) -> npt.NDArray[np.float32]:
    values = np.ascontiguousarray(X, dtype=np.float32)
    if values.ndim != 2 or values.shape[1] == 0:
        raise UserError(f"{name} must be a table of vectors (rows, dimensions), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise UserError(f"{name} holds NaN or infinite values: drop those rows before looking for neighbours")
    return values


def _queries(points: Array, queries: Array | None) -> tuple[npt.NDArray[np.int64] | None, Array]:
    """Row numbers of the queries in X (none if they are other vectors), and their vectors."""
    if queries is None:
        return np.arange(len(points)), points
    given = np.asarray(queries)
    if given.ndim == 1 and np.issubdtype(given.dtype, np.integer):
        if len(given) and not (given.min() >= 0 and given.max() < len(points)):
            raise UserError(f"queries must be row numbers from 0 to {len(points) - 1}")
        return given.astype(np.int64), points[given]
    vectors = _vectors(given, "queries")
    if vectors.shape[1] != points.shape[1]:
        raise UserError(f"queries have {vectors.shape[1]} dimensions and X has {points.shape[1]}")
    return None, vectors


def _exact_search(points: Array) -> Search:
    """Compare every pair, on the GPUs that this build of faiss can use if there are any."""
    faiss = library()
    index: Any = faiss.IndexFlatL2(points.shape[1])
    if faiss.get_num_gpus():
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(points)
    return lambda vectors, count: index.search(vectors, count)[1]


def _sufficient_search(
    points: Array, vectors: Array, k: int, count: int, recall: float, seed: int
) -> tuple[Search, float]:
    """An inverted file of 4-bit product codes, refined by true distances, opened wider until its recall suffices."""
    faiss = library()
    lists = max(1, int(min(4 * np.sqrt(len(points)), len(points) / 40)))
    padded = _even_width(points)
    index: Any = faiss.index_factory(padded.shape[1], f"IVF{lists},PQ{padded.shape[1] // 2}x4fs,RFlat")
    index.train(padded)
    index.add(padded)
    index.k_factor = 10
    sample = vectors[np.random.default_rng(seed).permutation(len(vectors))[:RECALL_SAMPLE]]
    truth = _exact_search(points)(sample, k)
    inverted_file: Any = faiss.downcast_index(index.base_index)
    reached = 0.0
    for probes in _doubled(16, lists):
        inverted_file.nprobe = probes
        reached = _found_share(truth, index.search(_even_width(sample), count)[1])
        if reached >= recall:
            return lambda queries, wanted: index.search(_even_width(queries), wanted)[1], reached
    raise UserError(f"cluster.recall {recall} is out of reach of the approximate search ({reached:.3f}): lower it")


def _doubled(first: int, last: int) -> list[int]:
    """First, twice the first, ... and the last."""
    steps = [first]
    while steps[-1] < last:
        steps.append(2 * steps[-1])
    return [min(step, last) for step in steps]


def _even_width(vectors: Array) -> Array:
    """A column of zeros appended to an odd width: distances stay, and the columns pair up for the codes."""
    return np.pad(vectors, ((0, 0), (0, vectors.shape[1] % 2)))


def _found_share(truth: Array, found: Array) -> float:
    """The share of true neighbours among those found."""
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]))


def _ranked(
    points: Array, vectors: Array, rows: Array | None, k: int, count: int, search: Search
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Candidates of each query ranked by (distance, number), the query itself left out."""
    distances = np.empty((len(vectors), k), np.float32)
    neighbours = np.empty((len(vectors), k), np.int64)
    for start in range(0, len(vectors), QUERY_BLOCK):
        block = slice(start, start + QUERY_BLOCK)
        queries = vectors[block]
        itself = np.full(len(queries), -1) if rows is None else rows[block]
        candidates = search(queries, count)
        short = rank_candidates(points, queries, itself, candidates, distances[block], neighbours[block])
        if short:
            raise UserError(f"the approximate search found fewer than {k} neighbours of {short} points: search exactly")
    return distances, neighbours


@numba.njit(cache=True, nogil=True)
def rank_candidates(points, queries, itself, candidates, distances, neighbours):  # type: ignore[no-untyped-def]
    """Fill the k best of each row by insertion; returns the number of rows with too few candidates."""
    k = distances.shape[1]
    best = np.empty(k)
    short = 0
    for row in range(len(queries)):
        filled = 0
        for candidate in candidates[row]:
            if candidate < 0 or candidate == itself[row]:
                continue
            squared = 0.0
            for column in range(points.shape[1]):
                step = np.float64(queries[row, column]) - np.float64(points[candidate, column])
                squared += step * step
            place = min(filled, k)
            while place > 0 and (
                squared < best[place - 1] or (squared == best[place - 1] and candidate < neighbours[row, place - 1])
            ):
                place -= 1
            if place == k:
                continue
            filled = min(filled + 1, k)
            for moved in range(filled - 1, place, -1):
                best[moved] = best[moved - 1]
                neighbours[row, moved] = neighbours[row, moved - 1]
            best[place] = squared
            neighbours[row, place] = candidate
        short += filled < k
        for place in range(filled):
            distances[row, place] = np.sqrt(best[place])
    return short
