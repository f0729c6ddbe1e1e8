"""A search through an engine: the same outcome in one process or several, stopped and resumed."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from cluster.commits import Found, search_graph
from cluster.config import ClusterConfig
from cluster.items import ItemWalks, packed, unpacked, write_graph
from cluster.walkgraph import WalkGraph
from cluster.walks import Walk, Walker
from scale.engine import Engine, Item, LocalEngine, do
from scale.progress import Progress
from scale.store import shard_path, write_shard

CONFIG = ClusterConfig(visited="seed", round_size=200, epsilon=5e-4)
MOST = 0.25


@pytest.fixture(scope="module")
def graph() -> WalkGraph:
    """Blocks of 30 vertices, dense inside and sparsely joined."""
    rng = np.random.default_rng(0)
    chance = np.where(np.kron(np.eye(25), np.ones((30, 30))) > 0, 0.6, 0.008)
    half = np.triu(rng.random((750, 750)) < chance, k=1).astype(np.float32)
    return WalkGraph.from_matrix(sparse.csr_array(half + half.T))


@pytest.fixture(scope="module")
def expected(graph: WalkGraph) -> Found:
    found = search_graph(graph, CONFIG, MOST, Walker(graph, CONFIG, MOST, 1))
    assert len(found.table) >= 5
    assert len(found.sweeps) > 5 * len(found.table)
    return found


class InterruptedSearchError(Exception):
    """Stands for the end of the process."""


class Fleeting(LocalEngine):
    """Ends in the middle of a round."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.left = items

    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        super().run(items[: self.left], folder, label, progress)
        if self.left < len(items):
            raise InterruptedSearchError
        self.left -= len(items)


class Processes:
    """Every item in one of two other processes."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool

    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        left = [item for item in items if not shard_path(folder, item.shard).exists()]
        list(self.pool.map(do, left, [folder] * len(left)))


def search(graph: WalkGraph, folder: Path, engine: Engine, threads: int = 1) -> Found:
    write_graph(folder / "graph", graph)
    return search_graph(graph, CONFIG, MOST, ItemWalks(folder, CONFIG, MOST, engine, threads))


def same(found: Found, expected: Found) -> None:
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.pagerank, expected.pagerank)
    assert found.table.equals(expected.table)
    assert found.sweeps.equals(expected.sweeps)


def test_a_search_goes_on_where_it_was_stopped(graph: WalkGraph, expected: Found, tmp_path: Path) -> None:
    for items in (2, 3):
        with pytest.raises(InterruptedSearchError):
            search(graph, tmp_path, Fleeting(items))
    done = sorted((tmp_path / "shards").iterdir())
    assert len(done) == 3
    times = [shard.stat().st_mtime_ns for shard in done]
    same(search(graph, tmp_path, LocalEngine()), expected)
    assert [shard.stat().st_mtime_ns for shard in done] == times
    assert len(list((tmp_path / "shards").iterdir())) > len(done)


def test_walks_on_disk_are_the_ones_that_are_used(graph: WalkGraph, expected: Found, tmp_path: Path) -> None:
    search(graph, tmp_path, LocalEngine())
    first = unpacked(shard_path(tmp_path, "00000000"))
    nothing = [Walk(walk.seed, 0, 1.0, walk.members[:0], 1.0, 0.0, walk.pagerank[:0], walk.ruled_out) for walk in first]
    write_shard(tmp_path / "other", "00000000", packed(nothing))
    changed = search(graph, tmp_path / "other", LocalEngine())
    assert changed.table["seed_row"][0] != expected.table["seed_row"][0]


def test_other_processes_and_threads_give_the_same(graph: WalkGraph, expected: Found, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        same(search(graph, tmp_path / "processes", Processes(pool)), expected)
    same(search(graph, tmp_path / "workers", LocalEngine(2), threads=2), expected)


def test_walks_survive_being_packed(graph: WalkGraph, tmp_path: Path) -> None:
    walks = Walker(graph, CONFIG, MOST, 1).walks(np.array([5, 700, 31]))
    write_shard(tmp_path, "one", packed(walks))
    for before, after in zip(walks, unpacked(shard_path(tmp_path, "one")), strict=True):
        for name in ("seed", "size", "conductance", "proposed", "volume"):
            assert getattr(before, name) == getattr(after, name)
        for name in ("members", "pagerank", "ruled_out"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
            assert getattr(before, name).dtype == getattr(after, name).dtype
