"""Support of clusters: are the tokens of a cluster, found in predictions, also close in what was measured?

Legend: N tokens, C components, B random sets per cluster, G groups of exchangeable tokens.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import polars as pl
from scipy.stats import false_discovery_control

from eval.config import LeakageConfig
from scale.errors import UserError
from scale.placement import available_cores

#: Random sets whose dispersion exceeds the cluster's by no more than rounding count as equal to it.
ROUNDING = 1e-9
#: Random sets behind an effect, however soon its p-value is known.
FEWEST_SETS = 200
#: Pieces of the work for every core: clusters take unlike times.
PIECES = 8
SCHEMA = {"cluster": pl.Int32, "members": pl.Int32, "free": pl.Int32} | dict.fromkeys(
    ("effect", "relative", "p", "p_corrected"), pl.Float64
)


def cluster_support(
    chi: np.ndarray,
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    second: np.ndarray | None = None,
    directions: bool = False,
    permutations: int = LeakageConfig.permutations,
    exceedances: int = LeakageConfig.exceedances,
    min_members: int = LeakageConfig.min_members,
    seed: int = LeakageConfig.seed,
) -> pl.DataFrame:
    """Test every cluster with at least `min_members` members among the measured tokens.

    The statistic is the dispersion, the mean squared distance of a set's vectors to their own mean. It is compared with
    sets of the same size drawn at random from all N tokens; with `groups` (such as the target token, or the cells of
    `eval.matching`), sets with as many tokens of every group as the cluster has, so that what is tested is closeness
    beyond sharing a group. With `second`, a measurement of the same tokens at independent draws, the dispersion is the
    mean inner product of the two deviations, (x - x̄)·(y - ȳ): finite-draw error that similar tokens share within one
    measurement then cancels on average.

    Random sets are drawn until `exceedances` of them are at most as dispersed as the cluster, the h-th being the l-th
    set: p = h / l. Where that does not happen within B = `permutations` sets, p = (1 + those that are) / (1 + B). This
    is exact (Besag & Clifford 1991), and spends its sets on clusters for which small p-values matter.

    Args:
        chi: Measured vectors (N, C), standardised.
        labels: Cluster of every token, -1 for none.
        groups: Group of every token, any integers.
        second: The independent measurement (N, C).
        directions: Compare directions alone, every vector divided by its length: where lengths are heavy-tailed, the
            few longest vectors otherwise decide the dispersion of any set they are in.
        permutations: Most random sets per cluster. For one of T clusters to pass at level α by itself, it takes T / α.
        exceedances: Random sets as close as the cluster after which no more are drawn.
        min_members: Fewest members that are tested.
        seed: Seed of the random sets; a cluster's sets depend on it and on the cluster's number alone.

    Returns:
        A table of `cluster`, `members`, `free` (how many of the members have tokens of their group outside the
        cluster), `effect` (how many standard deviations of the random sets the dispersion lies below their mean),
        `relative` (dispersion over that mean: 1 is no closer, 0 is identical), `p` and `p_corrected` (Benjamini and
        Hochberg, over the clusters that can be tested). A cluster that holds all tokens of its groups cannot be
        tested: `free` is 0 and the figures are null.
    """
    _check_shapes(chi, labels, groups, second)
    first = _centred(_units(chi) if directions else chi)
    other = first if second is None else _centred(_units(second) if directions else second)
    pool = _Pool.of(np.zeros(len(labels), dtype=np.int64) if groups is None else groups)
    clusters = _tested_clusters(labels, min_members)
    members = [np.flatnonzero(labels == cluster) for cluster in clusters]
    sizes = np.array([len(rows) for rows in members], dtype=np.int64)
    free = np.array([pool.free(rows) for rows in members], dtype=np.int64)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    flat = np.concatenate([*members, np.empty(0, dtype=np.int64)])
    norms = (first * other).sum(axis=1)
    keys = np.where(free > 0, np.asarray(clusters, dtype=np.int64), -1)
    given = (first, other, norms, flat, bounds, keys, *pool.arrays(), permutations, exceedances, seed)
    tested = _test(len(keys), given)
    return _table(clusters, sizes, free, tested)


def _check_shapes(chi: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, second: np.ndarray | None) -> None:
    if chi.ndim != 2 or len(labels) != len(chi):
        raise UserError(f"support: labels must name a cluster per row, got {labels.shape} labels for {chi.shape}")
    if groups is not None and len(groups) != len(chi):
        raise UserError(f"support: groups must name a group per row, got {groups.shape} groups for {chi.shape}")
    if second is not None and second.shape != chi.shape:
        raise UserError(f"support: the second measurement must have the shape {chi.shape}, got {second.shape}")


def _units(values: np.ndarray) -> np.ndarray:
    """Rows of length one; rows of length zero stay."""
    wide = np.asarray(values, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    units: np.ndarray = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return units


def _centred(values: np.ndarray) -> np.ndarray:
    centred = np.asarray(values, dtype=np.float64)
    return np.ascontiguousarray(centred - centred.mean(axis=0))


def _tested_clusters(labels: np.ndarray, min_members: int) -> np.ndarray:
    clusters, sizes = np.unique(labels[labels >= 0], return_counts=True)
    return clusters[sizes >= min_members]


@dataclass(frozen=True)
class _Pool:
    """Tokens sorted by group: group g holds `tokens[starts[g]:starts[g + 1]]`; `group_of` is every token's group."""

    tokens: np.ndarray
    starts: np.ndarray
    group_of: np.ndarray

    @classmethod
    def of(cls, groups: np.ndarray) -> _Pool:
        _, group_of, counts = np.unique(groups, return_inverse=True, return_counts=True)
        return cls(np.argsort(group_of, kind="stable"), np.concatenate([[0], np.cumsum(counts)]), group_of)

    def free(self, rows: np.ndarray) -> int:
        """How many of a cluster's members belong to groups of which it does not hold all."""
        groups, own, counts = np.unique(self.group_of[rows], return_inverse=True, return_counts=True)
        return int((counts < np.diff(self.starts)[groups])[own].sum())

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.tokens, self.starts, self.group_of


def _table(clusters: np.ndarray, sizes: np.ndarray, free: np.ndarray, tested: np.ndarray) -> pl.DataFrame:
    """Effects and p-values from what `_test` found."""
    own, mean, std, p = tested.T
    gap = mean - own
    can, corrected = free > 0, np.full(len(p), np.nan)
    if can.any():
        corrected[can] = false_discovery_control(p[can])
    effect = np.divide(gap, std, out=np.zeros_like(gap), where=std > ROUNDING * np.abs(mean))
    relative = np.divide(own, mean, out=np.ones_like(mean), where=mean != 0)
    figures = (np.where(can, figure, np.nan) for figure in (effect, relative, p, corrected))
    return pl.DataFrame(
        dict(zip(SCHEMA, (clusters, sizes, free, *figures), strict=True)), schema=SCHEMA, nan_to_null=True
    )


@numba.njit(cache=True)
def _next_random(state: np.uint64) -> tuple[np.uint64, np.uint64]:
    """One step of splitmix64: the new state and 64 random bits."""
    state += np.uint64(0x9E3779B97F4A7C15)
    bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, bits ^ (bits >> np.uint64(31))


@numba.njit(cache=True)
def _draw_distinct(
    state: np.uint64, pool: np.ndarray, count: int, stamp: int, stamps: np.ndarray, out: np.ndarray
) -> np.uint64:
    """A uniformly random set of `count` tokens of the pool into `out` (Floyd's method; `stamps` marks the chosen)."""
    for filled in range(count):
        last = len(pool) - count + filled
        state, bits = _next_random(state)
        # The remainder's bias is below pool size / 2^64.
        token = pool[np.int64(bits % np.uint64(last + 1))]
        if stamps[token] == stamp:
            token = pool[last]
        stamps[token] = stamp
        out[filled] = token
    return state


@numba.njit(cache=True)
def _dispersion(first: np.ndarray, second: np.ndarray, norms: np.ndarray, rows: np.ndarray) -> float:
    """Mean of (x - x̄)·(y - ȳ) over the rows: mean of x·y less x̄·ȳ."""
    width = first.shape[1]
    sum_first, sum_second, sum_norms = np.zeros(width), np.zeros(width), 0.0
    for row in rows:
        sum_norms += norms[row]
        for column in range(width):
            sum_first[column] += first[row, column]
            sum_second[column] += second[row, column]
    size = len(rows)
    return sum_norms / size - (sum_first * sum_second).sum() / (size * size)


def _test(clusters: int, given: tuple[Any, ...]) -> np.ndarray:
    """What `_test_some` finds of every cluster, (clusters, 4), some clusters on each core at a time.

    Threads of Python's: those of numba would set the number of torch's threads for the rest of the process.
    """
    result, cores = np.zeros((clusters, 4)), available_cores()
    chunk = max(1, clusters // (PIECES * cores))

    def some(begin: int) -> None:
        arguments = (*given, begin, result[begin : begin + chunk])
        _test_some(*arguments)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(some, range(0, clusters, chunk)))
    return result


@numba.njit(cache=True, nogil=True)
def _test_some(
    first: np.ndarray,
    second: np.ndarray,
    norms: np.ndarray,
    flat: np.ndarray,
    bounds: np.ndarray,
    keys: np.ndarray,
    tokens: np.ndarray,
    starts: np.ndarray,
    group_of: np.ndarray,
    permutations: int,
    exceedances: int,
    seed: int,
    start: int,
    result: np.ndarray,
) -> None:
    """Dispersion of clusters from ``start`` on, mean and deviation of their matched random sets', and p.

    Into ``result``, one row for each; those with a negative key are left out.
    """
    stamps, stamp = np.zeros(len(norms), dtype=np.int64), 0
    for place in range(len(result)):
        index = start + place
        if keys[index] < 0:
            continue
        members = flat[bounds[index] : bounds[index + 1]]
        own = _dispersion(first, second, norms, members)
        wanted = np.sort(group_of[members])
        chosen = np.empty(len(members), dtype=np.int64)
        state, mixed = _next_random(np.uint64(seed))
        state = mixed ^ (np.uint64(keys[index]) * np.uint64(0xD1342543DE82EF95))
        drawn, below, p, total, squares = 0, 0, -1.0, 0.0, 0.0
        while drawn < permutations and (p < 0 or drawn < FEWEST_SETS):
            begin, stamp = 0, stamp + 1
            while begin < len(wanted):
                group = wanted[begin]
                end = np.searchsorted(wanted, group, side="right")
                pool = tokens[starts[group] : starts[group + 1]]
                state = _draw_distinct(state, pool, end - begin, stamp, stamps, chosen[begin:end])
                begin = end
            found = _dispersion(first, second, norms, chosen)
            drawn += 1
            total += found - own
            squares += (found - own) ** 2
            below += found <= own + ROUNDING * abs(own)
            if p < 0 and below == exceedances:
                p = exceedances / drawn
        mean = total / drawn
        result[place, 0], result[place, 1] = own, own + mean
        result[place, 2] = np.sqrt(max(squares / drawn - mean * mean, 0.0))
        result[place, 3] = p if p >= 0 else (1.0 + below) / (1.0 + permutations)
