"""The benchmark of upsampling: what it counts, and that a run of it is one."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks.upsample.measure import PASSES, by_operations, case_of, measure, ratios
from benchmarks.upsample.run import Text, carry_out
from scale.store import Shards, read_table


def options(**changes: object) -> argparse.Namespace:
    plain = {
        "model": "demo",
        "batch": 2,
        "length": 32,
        "expansion": 16,
        "device": "cpu",
        "run": None,
        "gradients": False,
    }
    return argparse.Namespace(**{**plain, **changes})


@pytest.mark.parametrize("expansion", [1, 16])
def test_operations_of_four_blocks_and_of_the_auxiliary_model(expansion: int) -> None:
    """A block of width w: 24 w² for its matrices, 2 w (T + 1) for causal attention."""
    width, length, outputs = 128, 32, 24
    blocks = 4 * (24 * width**2 + 2 * width * (length + 1))
    auxiliary = 2 * expansion * width * (4 * width + outputs)
    found = by_operations(case_of(options(expansion=expansion)))
    assert found == pytest.approx(blocks / (blocks + auxiliary))


def test_every_side_is_timed_and_compared_with_itself() -> None:
    seconds = measure(case_of(options()), repeats=3, bfloat16=False)
    assert all(len(each) == 3 and min(each) > 0 for each in seconds.values())
    found = ratios({name: [2.0] for name in PASSES} | {"its products": [2.0]})
    assert found["upsampling / to the last tap"].median == 1.0
    assert found["  at most, by its products"].median == 0.5
    slower = ratios({**{name: [2.0] for name in PASSES}, PASSES[2]: [4.0], "its products": [1.0]})
    assert slower["upsampling / whole"].median == 0.5


def test_a_run_predicts_what_it_says(tmp_path: Path, text_folder: Path) -> None:
    text = Text(str(tmp_path), "text", str(text_folder), 40 * 32, context_length=32, contexts_per_shard=8)
    found = carry_out(text)
    coordinates = Shards(tmp_path / "upsampled").stack("coordinates")
    assert found["rows"] == len(coordinates) == len(read_table(tmp_path / "upsampled" / "rows.parquet"))
    assert len(coordinates) == (40 + 1) * 31  # and the one context of the held-out split
    assert coordinates.std(axis=0).min() > 0
    assert len(found["curve"]) == len(Shards(tmp_path / "upsampled").names) == 6
    assert (np.diff([point[0] for point in found["curve"]]) > 0).all()
    assert found["peak"]["libraries"] < found["peak"]["in all"]
