"""Items are done once, and what is finished is left alone."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from scale.engine import Item, LocalEngine
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
