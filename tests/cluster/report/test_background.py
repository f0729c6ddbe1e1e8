import numpy as np
import pytest

from cluster.report.background import BackgroundCounter


def blocks(seed: int, count: int) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(0, top, 50) for top in (20, 20, 4, 9)) for _ in range(count)]


def counter() -> BackgroundCounter:
    return BackgroundCounter(20, 4, 9)


def test_merging_equals_one_pass_and_counts_every_row() -> None:
    parts = blocks(0, 6)
    whole, left, right = counter(), counter(), counter()
    for i, part in enumerate(parts):
        whole.update(*part)
        (left if i % 2 else right).update(*part)
    left.merge(right)
    for name in ("targets", "preceding", "sources", "positions"):
        assert (getattr(whole.result(), name) == getattr(left.result(), name)).all()
    assert whole.result().rows == 300
    assert whole.result().targets[3] == sum(int((part[0] == 3).sum()) for part in parts)
    assert whole.result().preceding[3] == sum(int((part[1] == 3).sum()) for part in parts)


def test_counters_of_different_sizes_do_not_merge() -> None:
    with pytest.raises(AssertionError):
        counter().merge(BackgroundCounter(21, 4, 9))
