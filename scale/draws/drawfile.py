"""Draws of one chain in one safetensors file: a tensor (draws, *slice shape) for every slice, named after it.

The file has its full size from the start and is filled draw by draw, so that a chain of any size needs no memory for
its draws; any reader of safetensors can open it. A name looks like ``transformer.h.3.attn.c_proj.weight[0:32]``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scale.errors import UserError
from scale.model.architecture import Slice
from scale.store import written

NAMES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
CODES = {np.dtype("float32"): "F32", np.dtype("float16"): "F16"}
#: safetensors aligns the tensors' bytes to this.
ALIGNMENT = 8
ZEROS = memoryview(bytes(2**20))


def slice_name(where: Slice) -> str:
    if where.axis is None:
        return where.parameter
    before = ":, " * where.axis
    return f"{where.parameter}[{before}{where.start}:{where.stop}]"


def create(path: Path, shapes: Mapping[str, Sequence[int]], draws: int, dtype: np.dtype) -> None:
    """A file of the right size, all zeros. It takes its room on the disk now: a map has no way to report a full one."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + draws * int(np.prod(shape)) * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": [draws, *shape], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with written(path, make_folder=False) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for begin in range(0, end, len(ZEROS)):
            file.write(ZEROS[: end - begin])


def open_slices(path: Path, mode: str = "r") -> tuple[np.memmap, dict[str, np.ndarray]]:
    """The bytes of a file's tensors, memory-mapped, and the tensors as views of them, in the order they lie in."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(size))
        except ValueError as error:
            raise UserError(f"{path}: not a safetensors file; delete its stage and run again") from error
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, mode, offset=8 + size)  # type: ignore[call-overload]
    found = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        found[name] = data[begin:end].view(NAMES[entry["dtype"]]).reshape(entry["shape"])
    return data, found


class DrawFile(Sequence[np.ndarray]):
    """Draws as flat rows: what a chain writes, and what probing reads."""

    def __init__(self, path: Path, mode: str = "r") -> None:
        self.data, slices = open_slices(path, mode)
        self.slices = list(slices.values())
        self.sizes = [int(np.prod(part.shape[1:])) for part in self.slices]
        self.shape = (len(self.slices[0]), sum(self.sizes))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        """One draw, (parameters,)."""
        return np.concatenate([part[index].reshape(-1) for part in self.slices])

    def __setitem__(self, index: int, row: np.ndarray) -> None:
        at = 0
        for part, size in zip(self.slices, self.sizes, strict=True):
            part[index] = row[at : at + size].reshape(part.shape[1:])
            at += size

    def flush(self) -> None:
        """To the disk, before a checkpoint says that the draws so far are there."""
        self.data.flush()
