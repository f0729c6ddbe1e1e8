"""Members of the clusters, read in batches of whole clusters so that memory does not grow with the corpus."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.report.background import Background, BackgroundCounter
from cluster.report.groups import bounds, cut
from cluster.report.inputs import Inputs, Sources
from cluster.report.statistics import Shared, log_odds

# Clusters and members that are worked on together: what is kept of them meanwhile is small beside one block of rows.
CLUSTERS = 2000
MEMBERS = 200_000


def cluster_ranges(clusters: NDArray[np.int64], sizes: NDArray[np.int64], block_rows: int) -> Iterator[tuple[int, int]]:
    """First and last cluster id of runs of clusters with at most `block_rows` members (or one larger cluster).

    No run has more than `CLUSTERS` clusters or `MEMBERS` members either.
    """
    start, held, most = 0, 0, min(block_rows, MEMBERS)
    for i, size in enumerate(sizes):
        if i > start and (held + size > most or i - start == CLUSTERS):
            yield int(clusters[start]), int(clusters[i - 1])
            start, held = i, 0
        held += int(size)
    if len(clusters):
        yield int(clusters[start]), int(clusters[-1])


def read_members(inputs: Inputs, tokens: NDArray[np.int32], sources: Sources, first: int, last: int) -> pl.DataFrame:
    """Members of the clusters first..last with their preceding token and source, by cluster and distance."""
    members = (
        inputs.table("clusters", "members")
        .filter(pl.col("cluster").is_between(first, last))
        .collect()
        .sort("cluster", "distance", "row")
    )
    before = tokens[members["context"].to_numpy(), members["position"].to_numpy() - 1]
    source = sources.of_document[members["document"].to_numpy()]
    return members.with_columns(preceding=pl.Series(before), source=pl.Series(source))


def count_background(
    inputs: Inputs, tokens: NDArray[np.int32], sources: Sources, vocabulary: int, block_rows: int
) -> Background:
    """Count the whole clustered corpus, block by block."""
    length = tokens.shape[1]
    counter = BackgroundCounter(vocabulary, len(sources.names), length)
    rows = inputs.table("upsampled", "rows").select("context", "position", "token", "document")
    total = int(rows.select(pl.len()).collect().item())
    for start in range(0, total, block_rows):
        context, position, token, document = (
            column.to_numpy() for column in rows.slice(start, block_rows).collect().get_columns()
        )
        expected = np.arange(start, start + len(position)) % (length - 1) + 1
        assert (position == expected).all(), "rows must hold every predicted position of every context, in order"
        counter.update(token, tokens[context, position - 1], sources.of_document[document], position)
    return counter.result()


@dataclass(frozen=True)
class SharedColumns:
    """What the members of each cluster of a batch share: `targets[i]` belongs to the i-th cluster, and so on."""

    targets: list[Shared]
    preceding: list[Shared]
    sources: list[Shared]


def count_shared(members: pl.DataFrame, background: Background) -> SharedColumns:
    """Count predicted tokens, preceding tokens and sources in every cluster of a batch."""
    return SharedColumns(
        targets=_shared(members, "token", background.targets, background.rows),
        preceding=_shared(members, "preceding", background.preceding, background.rows),
        sources=_shared(members, "source", background.sources, background.rows),
    )


def _shared(members: pl.DataFrame, column: str, everywhere: NDArray[np.int64], rows: int) -> list[Shared]:
    """Counts per cluster, most frequent first and smaller ids first among equals, clusters in order of their ids."""
    counted = (
        members.group_by("cluster", column)
        .agg(count=pl.len().cast(pl.Int64))
        .with_columns(size=pl.col("count").sum().over("cluster"))
        .sort("cluster", "count", column, descending=[False, True, False])
    )
    items = counted[column].to_numpy().astype(np.int64)
    counts = counted["count"].to_numpy()
    odds, _ = log_odds(counts, counted["size"].to_numpy(), everywhere[items], rows)
    ends = bounds(counted["cluster"].to_numpy())
    parts = (cut(values, ends) for values in (items, counts, odds))
    return [Shared(item, count, odd, len(item)) for item, count, odd in zip(*parts, strict=True)]
