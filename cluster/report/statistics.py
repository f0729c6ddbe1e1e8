"""What a cluster's members share, as numbers. Arrays in, arrays out."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A cluster's label names predicted tokens until they cover this share of it, at most `LABEL_TARGETS` of them.
LABEL_COVER = 0.6
LABEL_TARGETS = 3
# It names preceding tokens and a source that together at least this share of the members have and whose log-odds
# against the rest of the corpus reach `LABEL_LOG_ODDS` (odds e² = 7.4 times as high).
LABEL_SHARE = 0.5
LABEL_LOG_ODDS = 2.0
LABEL_PRECEDING = 2
LABEL_SOURCES = 1


def log_odds(
    inside: ArrayLike, size: ArrayLike, everywhere: ArrayLike, rows: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds of an item in a cluster against the rest of the corpus, and its standard error.

    With a = inside, n = size, b = everywhere and N = rows, the log odds ratio of the 2 x 2 table with half a count
    added to each cell (Haldane and Anscombe), which is finite for every table and shrinks rare items:

        log (a + ½)/(n - a + ½) - log (b - a + ½)/(N - n - (b - a) + ½)

    Its variance is the sum of the reciprocals of the four cells.
    """
    a, n, b = (np.asarray(value, dtype=np.float64) for value in (inside, size, everywhere))
    cells = np.stack(np.broadcast_arrays(a, n - a, b - a, rows - n - (b - a))) + 0.5
    assert (cells > 0).all(), "an item is counted more often in a cluster than in the corpus"
    with_item, without, rest_with, rest_without = np.log(cells)
    return with_item - without - rest_with + rest_without, np.sqrt((1 / cells).sum(axis=0))


@dataclass(frozen=True)
class Shown:
    """Indices, in order of distance, of the members that a cluster's page shows: three disjoint groups."""

    nearest: NDArray[np.int64]
    random: NDArray[np.int64]
    edge: NDArray[np.int64]


def choose_shown(size: int, nearest: int, random: int, edge: int, rng: np.random.Generator | None) -> Shown:
    """Choose among `size` members sorted by distance: the first, the last, and a sample of what lies between.

    Without a generator there must be no more members than are asked for.
    """
    near = min(nearest, size)
    far = min(edge, size - near)
    middle = size - near - far
    if rng is None or middle <= random:
        assert middle <= random, "a sample needs a generator"
        drawn = np.arange(middle)
    else:
        drawn = np.sort(rng.choice(middle, size=random, replace=False))
    return Shown(
        nearest=np.arange(near),
        random=near + drawn.astype(np.int64),
        edge=np.arange(size - 1, size - 1 - far, -1),
    )


class Shared(NamedTuple):
    """The most frequent items of a cluster with their counts and log-odds, and how many distinct items there are."""

    items: NDArray[np.int64]
    counts: NDArray[np.int64]
    log_odds: NDArray[np.float64]
    distinct: int


@dataclass(frozen=True)
class Label:
    """A cluster's label: its main predicted tokens and the share they cover, distinctive preceding tokens, sources.

    `others` is the number of predicted tokens left unnamed where the named ones do not cover most of the cluster.
    """

    targets: list[int]
    others: int
    preceding: list[int]
    sources: list[int]
    covered: float


def describe(size: int, targets: Shared, preceding: Shared, sources: Shared) -> Label:
    """The label of a cluster from its own counts: its main predicted tokens, and what sets their surroundings apart."""
    named, covered = _fewest(targets.counts[:LABEL_TARGETS].tolist(), size, LABEL_COVER)
    return Label(
        targets=targets.items[:named].tolist(),
        others=targets.distinct - named if covered < LABEL_COVER else 0,
        preceding=_distinctive(size, preceding, LABEL_PRECEDING),
        sources=_distinctive(size, sources, LABEL_SOURCES),
        covered=covered,
    )


def _distinctive(size: int, shared: Shared, most: int) -> list[int]:
    """The fewest of the `most` most frequent distinctive items that together reach `LABEL_SHARE`, or none."""
    chosen = (shared.log_odds >= LABEL_LOG_ODDS).nonzero()[0][:most]
    enough, share = _fewest(shared.counts[chosen].tolist(), size, LABEL_SHARE)
    return shared.items[chosen[:enough]].tolist() if share >= LABEL_SHARE else []


def _fewest(counts: list[int], size: int, share: float) -> tuple[int, float]:
    """How many counts, from the first, reach a share of `size`, and the share that they reach; all where none do."""
    total = 0
    for i, count in enumerate(counts):
        total += count
        if total / size >= share:
            return i + 1, total / size
    return len(counts), total / size
