"""What the auxiliary model learns: coordinates of measured susceptibilities, written shard by shard and read in place.

They lie in a stage's unfinished folder while it trains, so that the measured tokens may be more than memory holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from aux.basis import Basis
from scale.store import Shards, shard_name, shard_path, write_shard

#: By which chains the coordinates were measured: one half of them, the other, or all.
HALVES = ("first", "second")
BOTH = "both"


def write_targets(folder: Path, blocks: Iterable[np.ndarray], basis: Basis) -> None:
    """Write the coordinates of blocks of χ (rows, 2, C), one shard each; a shard that is there is not written again."""
    for index, block in enumerate(blocks):
        if shard_path(folder, shard_name(index)).exists():
            continue
        halves = [basis.coordinates(block[:, half]).astype(np.float32) for half in range(len(HALVES))]
        coordinates = dict(zip(HALVES, halves, strict=True)) | {BOTH: (halves[0] + halves[1]) / 2}
        write_shard(folder, shard_name(index), coordinates)


def read_targets(folder: Path, half: int | None) -> list[np.ndarray]:
    """Memory-mapped coordinates (rows, P), shard by shard, by one half of the chains or by both."""
    return list(Shards(folder).blocks(BOTH if half is None else HALVES[half]))
