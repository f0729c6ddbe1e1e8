"""Walks as items of an engine: each writes its shard, so that a search goes on where it was stopped, in any process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cluster.config import ClusterConfig
from cluster.walkgraph import WalkGraph
from cluster.walks import Walk, Walker
from scale.engine import Engine, Item, per_worker
from scale.progress import Silent
from scale.store import read_array, shard_path, write_array

#: Seeds of one item: a round of that many is one item, walked in all threads of its process.
ITEM_SEEDS = ClusterConfig.round_size
GRAPH_ARRAYS = ("indptr", "indices", "weights")


def write_graph(folder: Path, graph: WalkGraph) -> None:
    for name in GRAPH_ARRAYS:
        write_array(folder / f"{name}.npy", getattr(graph, name))


@per_worker
def load_walker(folder: str, config: ClusterConfig, max_conductance: float, threads: int | None) -> Walker:
    """A walker on a graph in a folder, memory-mapped: processes of one machine share its pages."""
    graph = WalkGraph.from_arrays(*(read_array(Path(folder) / f"{name}.npy") for name in GRAPH_ARRAYS))
    return Walker(graph, config, max_conductance, threads)


def walk_seeds(
    graph: str, config: ClusterConfig, max_conductance: float, seeds: npt.NDArray[np.int64], threads: int | None
) -> dict[str, npt.NDArray[np.generic]]:
    """The walks of some seeds as the arrays of a shard."""
    return packed(load_walker(graph, config, max_conductance, threads).walks(seeds))


def packed(walks: Sequence[Walk]) -> dict[str, npt.NDArray[np.generic]]:
    """Fields of all walks side by side; lists of vertices end to end."""
    return {
        "seed": np.array([walk.seed for walk in walks], np.int64),
        "size": np.array([walk.size for walk in walks], np.int32),
        "conductance": np.array([walk.conductance for walk in walks]),
        "proposed": np.array([walk.proposed for walk in walks]),
        "volume": np.array([walk.volume for walk in walks]),
        "member_counts": np.array([len(walk.members) for walk in walks], np.int64),
        "members": np.concatenate([walk.members for walk in walks]),
        "pagerank": np.concatenate([walk.pagerank for walk in walks]),
        "ruled_out_counts": np.array([len(walk.ruled_out) for walk in walks], np.int64),
        "ruled_out": np.concatenate([walk.ruled_out for walk in walks]),
    }


def unpacked(folder: Path) -> list[Walk]:
    """The walks of a shard."""

    def read(name: str) -> npt.NDArray[np.generic]:
        return np.array(read_array(folder / f"{name}.npy"))

    ends, ruled_ends = np.cumsum(read("member_counts"))[:-1], np.cumsum(read("ruled_out_counts"))[:-1]
    columns = (
        read("seed").tolist(), read("size").tolist(), read("conductance").tolist(), np.split(read("members"), ends),
        read("proposed").tolist(), read("volume").tolist(), np.split(read("pagerank"), ends),
        np.split(read("ruled_out"), ruled_ends),
    )  # fmt: skip
    return [Walk(*fields) for fields in zip(*columns, strict=True)]


@dataclass
class ItemWalks:
    """Walks done by an engine, in the order in which they are asked for.

    Args:
        folder: Holds the graph and a shard for every item done; made by the same search, perhaps by an earlier process.
        config: Of the search.
        max_conductance: Of the search.
        engine: Where items run.
        threads: Of each item; all of the machine's by default.
    """

    folder: Path
    config: ClusterConfig
    max_conductance: float
    engine: Engine
    threads: int | None = None
    asked: int = 0

    def walks(self, seeds: npt.NDArray[np.int64]) -> list[Walk]:
        """One walk per seed, in the order of the seeds; what is on disk is read."""
        parts = [seeds[start : start + ITEM_SEEDS] for start in range(0, len(seeds), ITEM_SEEDS)]
        items = [self._item(self.asked + number, part) for number, part in enumerate(parts)]
        self.asked += len(items)
        self.engine.run(items, self.folder, "walks", Silent())
        found = [walk for item in items for walk in unpacked(shard_path(self.folder, item.shard))]
        assert [walk.seed for walk in found] == seeds.tolist()
        return found

    def _item(self, number: int, seeds: npt.NDArray[np.int64]) -> Item:
        arguments = {
            "graph": str(self.folder / "graph"),
            "config": self.config,
            "max_conductance": self.max_conductance,
            "seeds": seeds,
            "threads": self.threads,
        }
        return Item(f"{number:08d}", walk_seeds, arguments, share="cores", reads=("graph",))
