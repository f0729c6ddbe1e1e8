"""Neighbours as items of an engine: each block of queries writes its shard, so that a search that was stopped goes on
where it was, in any process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.indexes import Index, on_graphics, read_index
from cluster.neighbours import Found, Search, check_k, checked_vectors, prepare, search_blocks
from cluster.recall import Recall
from scale.engine import Engine, Item, Share, do, per_worker
from scale.progress import Progress
from scale.store import SHARDS, shard_path

Array = npt.NDArray[Any]

#: Queries of one item.
ITEM_QUERIES = 1 << 17
INDEX = "index"
SAMPLE_ARRAYS = ("rows", "reach", "found")
#: Bytes from which an array of all neighbours is kept on disk.
MAPPED = 1 << 31


@dataclass(frozen=True)
class ItemNeighbours:
    """Neighbours of all rows, found by an engine.

    Args:
        folder: Holds the index and a shard for every item done; made by the same search, perhaps by an earlier process.
        engine: Where items run.
        progress: Told of every item.
    """

    folder: Path
    engine: Engine
    progress: Progress

    def __call__(self, X: Array, k: int, search: Search) -> Found:
        check_k(k, len(X) - 1)
        if not shard_path(self.folder, INDEX).exists():
            do(Item(INDEX, prepared, {"X": X, "k": k, "search": search}), self.folder)
        share: Share = "machine" if on_graphics(index_arrays(read_shard(self.folder, INDEX))) else "cores"
        read, asked = (f"{SHARDS}/{INDEX}",), {"folder": str(self.folder), "k": k}
        items = [
            Item(f"{number:05d}", search_rows, {**asked, "start": start}, share=share, reads=read)
            for number, start in enumerate(range(0, len(X), ITEM_QUERIES))
        ]
        self.engine.run(items, self.folder, "neighbours", self.progress)
        load_index.forget()
        distances, neighbours = self._array("distances", (len(X), k)), self._array("neighbours", (len(X), k))
        for item in items:
            shard = read_shard(self.folder, item.shard)
            distances[shard["rows"]], neighbours[shard["rows"]] = shard["distances"], shard["neighbours"]
        return Found(distances, neighbours, recall_of(read_shard(self.folder, INDEX)))

    def _array(self, name: str, shape: tuple[int, int]) -> Array:
        dtype = np.float32 if name == "distances" else np.int32
        if 4 * shape[0] * shape[1] < MAPPED:
            return np.empty(shape, dtype)
        return np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def prepared(X: Array, k: int, search: Search) -> dict[str, Array]:
    """The index of all rows of X, what it finds, and the rows themselves, as the arrays of a shard."""
    points = checked_vectors(X, "X")
    index, recall = prepare(points, points, np.arange(len(points)), k, search)
    measured: dict[str, Array] = {
        "sample_rows": recall.rows,
        "sample_reach": recall.reach,
        "sample_found": recall.found,
    }
    return {"X": points, "turn": index.order, **measured, **index.arrays()}


def recall_of(shard: dict[str, Array]) -> Recall:
    return Recall(*(np.array(shard[f"sample_{name}"]) for name in SAMPLE_ARRAYS))


def read_shard(folder: Path, name: str) -> dict[str, Array]:
    """Memory-mapped and private to this process: nothing writes to them, but torch asks for arrays that could be."""
    return {path.stem: np.load(path, mmap_mode="c") for path in shard_path(folder, name).iterdir()}


def index_arrays(arrays: dict[str, Array]) -> dict[str, Array]:
    """Those of the index among the arrays of its shard."""
    others = {"X", "turn", *(f"sample_{name}" for name in SAMPLE_ARRAYS)}
    return {name: array for name, array in arrays.items() if name not in others}


@per_worker
def load_index(folder: str) -> tuple[Index, Array, Array]:
    """The index, the vectors, and the order of the queries."""
    arrays = read_shard(Path(folder), INDEX)
    points = arrays["X"]
    return read_index(index_arrays(arrays), points), points, arrays["turn"]


def search_rows(folder: str, start: int, k: int) -> dict[str, Array]:
    """Neighbours of a run of rows in the order of the index."""
    index, points, turn = load_index(folder)
    rows = np.array(turn[start : start + ITEM_QUERIES])
    distances, neighbours = search_blocks(index, points, points[rows], rows, k)
    return {"rows": rows, "distances": distances, "neighbours": neighbours.astype(np.int32)}
