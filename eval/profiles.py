"""Which components a cluster's tokens respond to: mean predicted susceptibilities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from aux.basis import Basis
from scale.store import Shards, read_array


def profiles(inputs: Mapping[str, Path], basis: Basis) -> pl.DataFrame:
    """Mean predicted susceptibility of every cluster's members, by component, in standardised units."""
    labels = read_array(inputs["clusters"] / "labels.npy")
    count = int(labels.max(initial=-1)) + 1
    sums, sizes = np.zeros((count, len(basis.variances))), np.zeros(count)
    start = 0
    for block in Shards(inputs["upsampled"]).blocks("coordinates"):
        own = labels[start : start + len(block)]
        np.add.at(sums, own[own >= 0], block[own >= 0].astype(np.float64))
        np.add.at(sizes, own[own >= 0], 1)
        start += len(block)
    means = basis.reconstruct(sums / np.maximum(sizes, 1)[:, None])
    return pl.DataFrame(
        {
            "cluster": np.repeat(np.arange(count, dtype=np.int32), len(basis.components)),
            "component": list(basis.components) * count,
            "mean": means.ravel(),
        },
        schema={"cluster": pl.Int32, "component": pl.String, "mean": pl.Float64},
    )
