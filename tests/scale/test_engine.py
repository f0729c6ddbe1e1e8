"""Items are done once, and what is finished is left alone."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from scale.engine import Item, LocalEngine, per_worker
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
