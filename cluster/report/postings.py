"""From a token to the clusters that predict it, or that follow it: what the search reads."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.report.chunks import ChunkWriter
from cluster.report.statistics import Shared

# Clusters per record: a token of many clusters has several records under its key.
PIECE = 2000

Columns = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


class Postings:
    """Pairs of token and cluster with their counts, gathered cluster by cluster."""

    def __init__(self) -> None:
        self._parts: list[Columns] = []
        self._sorted: Columns | None = None

    def add(self, cluster: int, shared: Shared, most: int | None = None) -> None:
        """The items of one cluster, or the `most` most frequent of them."""
        assert self._sorted is None, "what has been sorted takes in no more"
        items, counts = shared.items[:most].astype(np.int32), shared.counts[:most].astype(np.int32)
        self._parts.append((items, np.full(len(items), cluster, np.int32), counts))

    def columns(self) -> Columns:
        """Items, clusters, counts: in order of item, then of count from the largest, then of cluster."""
        if self._sorted is None:
            empty = np.zeros(0, np.int32)
            joined = [np.concatenate([empty, *column]) for column in zip(*self._parts, strict=True)] or [empty] * 3
            self._parts.clear()
            items, clusters, counts = joined
            order = np.lexsort((clusters, -counts, items))
            self._sorted = (items[order], clusters[order], counts[order])
        return self._sorted

    def write(self, folder: Path, series: str, limit: int) -> list[int]:
        """Records [item, cluster and count alternately], at most `PIECE` clusters each."""
        items, clusters, counts = self.columns()
        writer = ChunkWriter(folder, series, limit)
        piece = min(PIECE, limit // 32)
        edges = np.flatnonzero(np.diff(items)) + 1
        for start, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(items)], strict=True):
            for low in range(start, stop, piece):
                high = min(stop, low + piece)
                pairs = np.stack([clusters[low:high], counts[low:high]], axis=1).ravel().tolist()
                writer.add(int(items[low]), [int(items[low]), pairs])
        return writer.close()
