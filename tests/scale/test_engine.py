"""Items are done once, and what is finished is left alone."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from scale.engine import Item, LocalEngine, per_worker
from scale.placement import available_cores, default_workers
from scale.progress import Silent
from scale.store import Shards


def square(value: int, log: Path) -> Mapping[str, np.ndarray]:
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{value}\n")
    if value == 3 and not log.with_suffix(".mended").exists():
        raise RuntimeError("item 3 fails")
    return {"square": np.array([value**2])}


def test_a_run_that_failed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    items = [Item(f"{value:05d}", square, {"value": value, "log": log}) for value in range(5)]
    with pytest.raises(RuntimeError, match="item 3"):
        LocalEngine().run(items, tmp_path, "squares", Silent())
    assert list(Shards(tmp_path).names) == ["00000", "00001", "00002"]
    log.with_suffix(".mended").touch()
    LocalEngine().run(items, tmp_path, "squares", Silent())
    assert Shards(tmp_path).stack("square").tolist() == [0, 1, 4, 9, 16]
    assert log.read_text(encoding="utf-8").split() == ["0", "1", "2", "3", "3", "4"]


def matrix_product(seed: int) -> Mapping[str, np.ndarray]:
    """Something whose rounding depends on how many threads share it."""
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(300, 400, generator=generator), torch.randn(400, 300, generator=generator)
    return {"product": (left @ right).numpy(), "threads": np.array([torch.get_num_threads()])}


@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_write_the_same_bytes_as_any_other_number(tmp_path: Path, workers: int) -> None:
    items = [Item(f"{seed:05d}", matrix_product, {"seed": seed}) for seed in range(8)]
    LocalEngine(workers).run(items, tmp_path / "some", "products", Silent())
    LocalEngine(4).run(items, tmp_path / "four", "products", Silent())
    some, four = Shards(tmp_path / "some"), Shards(tmp_path / "four")
    assert list(some.names) == [item.shard for item in items]
    assert np.array_equal(some.stack("product"), four.stack("product"))
    assert set(some.stack("threads")) == {1}


def test_an_item_that_fails_among_several_workers_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    items = [Item(f"{value:05d}", square, {"value": value, "log": log}) for value in range(12)]
    with pytest.raises(RuntimeError, match="item 3"):
        LocalEngine(2).run(items, tmp_path, "squares", Silent())
    kept = set(Shards(tmp_path).names)
    assert "00003" not in kept
    log.with_suffix(".mended").touch()
    before = log.read_text(encoding="utf-8").split()
    LocalEngine(2).run(items, tmp_path, "squares", Silent())
    again = log.read_text(encoding="utf-8").split()[len(before) :]
    assert {f"{int(value):05d}" for value in again} == {item.shard for item in items} - kept
    assert Shards(tmp_path).stack("square").tolist() == [value**2 for value in range(12)]


def test_every_worker_has_a_value_of_its_own_and_keeps_the_last() -> None:
    made: list[int] = []

    @per_worker
    def heavy(number: int) -> list[int]:
        made.append(number)
        return [number]

    first = heavy(1)
    assert heavy(1) is first
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(heavy, 1).result()
    assert other == first
    assert other is not first
    assert heavy(1) is first
    heavy(2)
    assert heavy(1) is not first
    heavy.forget()
    heavy(1)
    assert made == [1, 1, 2, 1, 1]


class FakeGPUs:
    """Current GPU of every thread, as torch keeps it."""

    def __init__(self, count: int) -> None:
        self.count, self.current, self.asked = count, threading.local(), 0

    def set_device(self, index: int) -> None:
        assert 0 <= index < self.count
        self.asked += 1
        self.current.index = index

    def item(self, value: int, meeting: threading.Barrier) -> Mapping[str, np.ndarray]:
        meeting.wait(timeout=20)  # as many items at a time as there are workers, or the test ends here
        return {"gpu": np.array([getattr(self.current, "index", -1)])}


@pytest.mark.parametrize(("gpus", "workers", "taken"), [(4, 4, [1, 1, 1, 1]), (2, 4, [2, 2]), (3, 2, [1, 1, 0])])
def test_workers_take_gpus_in_turn(
    gpus: int, workers: int, taken: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every round of items, one for each worker, has them on as many GPUs as there are."""
    fake = FakeGPUs(gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", fake.set_device)
    meeting = threading.Barrier(workers)
    items = [Item(f"{i:05d}", fake.item, {"value": i, "meeting": meeting}) for i in range(3 * workers)]
    LocalEngine(workers).run(items, tmp_path, "items", Silent())
    found = Shards(tmp_path).stack("gpu").ravel()
    assert np.bincount(found, minlength=gpus).tolist() == [3 * count for count in taken]
    assert fake.asked == workers, "once for every worker"


def test_without_gpus_none_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGPUs(1)
    monkeypatch.setattr(torch.cuda, "set_device", fake.set_device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    items = [Item(f"{i:05d}", fake.item, {"value": i, "meeting": threading.Barrier(1)}) for i in range(4)]
    LocalEngine(2).run(items, tmp_path, "items", Silent())
    assert set(Shards(tmp_path).stack("gpu").ravel()) == {-1}
    assert fake.asked == 0


@pytest.mark.parametrize(("device", "workers"), [("auto", 8), ("cuda", 8), ("cuda:3", 1), ("cpu", None)])
def test_by_default_there_is_a_worker_for_every_gpu(
    device: str, workers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert default_workers(device) == (workers or available_cores())
