"""Tables of what the members of a cluster share, as the page shows them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.report.background import Background
from cluster.report.numbers import rounded_array, rounded_list
from cluster.report.statistics import Shared, log_odds

# Quantiles of the members' positions that a cluster's page states, and bins of the context that it compares.
QUANTILES = (0.1, 0.5, 0.9)
BINS = 8


def top_table(shared: Shared, top: int) -> dict[str, Any]:
    """Columns of a table of shared items."""
    return {
        "items": shared.items[:top].tolist(),
        "counts": shared.counts[:top].tolist(),
        "log_odds": rounded_list(shared.log_odds[:top], digits=3),
        "distinct": shared.distinct,
    }


def positions(values: NDArray[np.int32], ends: NDArray[np.int64]) -> list[list[int]]:
    """Three quantiles of the positions of each cluster, whose rows lie between two of `ends`: members, not means."""
    sizes = np.diff(ends)
    ordered = values[np.lexsort((values, np.repeat(np.arange(len(sizes)), sizes)))]
    at = np.floor(np.array(QUANTILES) * (sizes - 1)[:, None] + 0.5).astype(np.int64)
    return ordered[ends[:-1, None] + at].tolist()


def position_tables(values: NDArray[np.int32], ends: NDArray[np.int64], background: Background) -> list[dict[str, Any]]:
    """Members by position, in bins of equal width, beside the corpus: first position of each bin, counts, log-odds."""
    length, sizes = len(background.positions), np.diff(ends)
    edges = np.unique(np.linspace(1, length, min(BINS, max(1, length - 1)) + 1).round().astype(np.int64))
    bins = len(edges) - 1
    own = np.repeat(np.arange(len(sizes)), sizes) * bins + np.searchsorted(edges, values, side="right") - 1
    inside = np.bincount(own, minlength=len(sizes) * bins).reshape(len(sizes), bins)
    everywhere = np.add.reduceat(background.positions[1:], edges[:-1] - 1)
    odds, _ = log_odds(inside, sizes[:, None], everywhere, background.rows)
    first, last = edges[:-1].tolist(), (edges[1:] - 1).tolist()
    return [
        {"first": first, "last": last, "counts": counts, "log_odds": own_odds}
        for counts, own_odds in zip(inside.tolist(), rounded_array(odds, digits=3), strict=True)
    ]
