"""Neighbours through an engine: the same in one process or several, stopped and resumed."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cluster import neighbour_items
from cluster.neighbour_items import ItemNeighbours
from cluster.neighbours import Found, Search, find_neighbours
from scale.engine import Engine, Item, LocalEngine
from scale.progress import Progress, Silent
from scale.store import shard_path

K = 7
SEARCH = Search("lists", recall=0.9)


@pytest.fixture(scope="module")
def cloud() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((6000, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_items, "ITEM_QUERIES", 2500)


class InterruptedSearchError(Exception):
    """Stands for the end of the process."""


class Fleeting(LocalEngine):
    """Ends after one item."""

    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        super().run(items[:1], folder, label, progress)
        raise InterruptedSearchError


class Elsewhere(LocalEngine):
    """Sends every item as other processes would get it, and runs two at a time."""

    def __init__(self) -> None:
        super().__init__(2)

    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        super().run([pickle.loads(pickle.dumps(item)) for item in items], folder, label, progress)


def find(cloud: npt.NDArray[np.float32], folder: Path, engine: Engine, search: Search = SEARCH) -> Found:
    return ItemNeighbours(folder, engine, Silent())(cloud, K, search)


def same(found: Found, expected: Found) -> None:
    np.testing.assert_array_equal(found.neighbours, expected.neighbours)
    np.testing.assert_array_equal(found.distances, expected.distances)
    np.testing.assert_array_equal(found.recall.found, expected.recall.found)


def test_items_find_what_one_search_finds(cloud: npt.NDArray[np.float32], tmp_path: Path) -> None:
    for name in ("lists", "exact", "quantised"):
        search = Search(name, recall=0.9)  # type: ignore[arg-type]
        same(find(cloud, tmp_path / name, LocalEngine(), search), find_neighbours(cloud, K, search))
        assert len(list((tmp_path / name / "shards").iterdir())) == 4


def test_a_search_goes_on_where_it_was_stopped(cloud: npt.NDArray[np.float32], tmp_path: Path) -> None:
    with pytest.raises(InterruptedSearchError):
        find(cloud, tmp_path, Fleeting())
    done = sorted((tmp_path / "shards").iterdir())
    assert [shard.name for shard in done] == ["00000", "index"]
    times = [shard.stat().st_mtime_ns for shard in done]
    same(find(cloud, tmp_path, LocalEngine()), find_neighbours(cloud, K, SEARCH))
    assert [shard.stat().st_mtime_ns for shard in done] == times


def test_what_is_on_disk_is_not_searched_again(cloud: npt.NDArray[np.float32], tmp_path: Path) -> None:
    found = find(cloud, tmp_path, LocalEngine())
    shard = shard_path(tmp_path, "00001")
    np.save(shard / "distances.npy", np.load(shard / "distances.npy") + 1)
    rows = np.load(shard / "rows.npy")
    again = find(cloud, tmp_path, LocalEngine())
    np.testing.assert_array_equal(again.distances[rows], found.distances[rows] + 1)


def test_items_are_sent_as_they_stand(cloud: npt.NDArray[np.float32], tmp_path: Path) -> None:
    same(find(cloud, tmp_path, Elsewhere()), find_neighbours(cloud, K, SEARCH))


def test_large_arrays_are_kept_on_disk(
    cloud: npt.NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbour_items, "MAPPED", 1000)
    found = find(cloud, tmp_path, LocalEngine())
    assert isinstance(found.neighbours, np.memmap)
    same(found, find_neighbours(cloud, K, SEARCH))
