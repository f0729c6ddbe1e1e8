"""Whole contexts, so that any token of a cluster can be shown where it stands, however few a page holds."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.report.chunks import ChunkWriter
from cluster.report.inputs import Inputs, Sources


def first_rows(inputs: Inputs, length: int) -> pl.DataFrame:
    """context, row of its first predicted token, document: every context that was clustered, in ascending order."""
    firsts = inputs.table("upsampled", "rows").filter(pl.col("position") == 1)
    found = firsts.select("context", "row", "document").sort("context").collect()
    assert (found["row"].to_numpy() % (length - 1) == 0).all(), "a context's rows must follow one another"
    return found


def write_contexts(
    folder: Path, inputs: Inputs, tokens: NDArray[np.int32], labels: NDArray[np.int32], sources: Sources, limit: int
) -> list[int]:
    """Records [context, source, tokens, position and cluster of its members alternately]; returns the chunks' keys."""
    length = tokens.shape[1]
    writer = ChunkWriter(folder, "contexts", limit)
    for context, row, document in first_rows(inputs, length).iter_rows():
        own = labels[row : row + length - 1]
        at = np.flatnonzero(own >= 0)
        pairs = np.stack([at + 1, own[at]], axis=1).ravel().tolist()
        writer.add(context, [context, sources.names[sources.of_document[document]], tokens[context].tolist(), pairs])
    return writer.close()
