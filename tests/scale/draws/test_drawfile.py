"""Draws on disk: what safetensors itself reads there."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from scale.draws.drawfile import DrawFile, create, slice_name
from scale.errors import UserError
from scale.model.architecture import Slice

SHAPES = {"a.weight[0:2]": [2, 3], "a.weight[:, 3:4]": [5, 1], "b": [4]}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_was_written_draw_by_draw_is_what_safetensors_reads(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "draws.safetensors"
    rows = np.random.default_rng(0).normal(size=(3, 15)).astype(dtype)
    create(path, SHAPES, 3, np.dtype(dtype))
    assert all((value == 0).all() for value in load_file(path).values())
    file = DrawFile(path, "r+")
    for index in (2, 0, 1):
        file[index] = rows[index]
    file.flush()
    read = load_file(path)
    assert {name: list(value.shape) for name, value in read.items()} == {n: [3, *s] for n, s in SHAPES.items()}
    assert np.array_equal(np.concatenate([read[name].reshape(3, -1) for name in SHAPES], axis=1), rows)
    again = DrawFile(path)
    assert again.shape == (3, 15)
    assert np.array_equal(np.stack(list(again)), rows)


def test_slices_are_named_as_one_would_write_them() -> None:
    assert slice_name(Slice("w")) == "w"
    assert slice_name(Slice("w", 0, 3, 5)) == "w[3:5]"
    assert slice_name(Slice("w", 1, 3, 5)) == "w[:, 3:5]"


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "draws.safetensors"
    path.write_bytes((4).to_bytes(8, "little") + b"oops")
    with pytest.raises(UserError, match=r"draws\.safetensors: not a safetensors file"):
        DrawFile(path)
