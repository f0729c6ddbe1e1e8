"""Tables of what the members of a cluster share, as the page shows them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.report.background import Background
from cluster.report.numbers import rounded_list
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


def positions(values: NDArray[np.int32]) -> list[int]:
    """Three quantiles of the positions."""
    return [int(value) for value in np.quantile(values, QUANTILES, method="nearest")]


def position_table(values: NDArray[np.int32], background: Background) -> dict[str, Any]:
    """Members by position, in bins of equal width, beside the corpus: first position of each bin, counts, log-odds."""
    length = len(background.positions)
    edges = np.unique(np.linspace(1, length, min(BINS, max(1, length - 1)) + 1).round().astype(np.int64))
    inside = np.add.reduceat(np.bincount(values, minlength=length)[1:], edges[:-1] - 1)
    everywhere = np.add.reduceat(background.positions[1:], edges[:-1] - 1)
    odds, _ = log_odds(inside, len(values), everywhere, background.rows)
    return {
        "first": edges[:-1].tolist(),
        "last": (edges[1:] - 1).tolist(),
        "counts": inside.tolist(),
        "log_odds": rounded_list(odds, digits=3),
    }
