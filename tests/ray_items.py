"""Items for workers in other processes, which find them by the name of this module."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scale.engine import per_worker
from scale.errors import UserError


def product(seed: int) -> Mapping[str, np.ndarray]:
    """Something whose rounding depends on how many threads share it."""
    import torch  # most workers of the tests do without

    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(300, 400, generator=generator), torch.randn(400, 300, generator=generator)
    return {"product": (left @ right).numpy(), "threads": np.array([torch.get_num_threads()])}


def note(folder: Path, value: int) -> int:
    """Count the attempts at an item across processes."""
    with open(folder / f"tried-{value}", "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    return len((folder / f"tried-{value}").read_text(encoding="utf-8").splitlines())


def troubled(value: int, how: str, notes: Path) -> Mapping[str, np.ndarray]:
    """Item 2 has a fault; all others are sound."""
    attempt = note(notes, value)
    if value == 2:
        if how == "raises":
            raise RuntimeError("item 2\nis broken")
        if how == "kills" or (how == "kills twice" and attempt < 3):
            os._exit(1)
        if how == "refuses":
            raise UserError("model.path: no such thing; name another")
    return {"value": np.array([value])}


def counting(folder: Path, notes: Path) -> Mapping[str, np.ndarray]:
    """Writes one file after another; the first two attempts end after two more each."""
    found = len(list(folder.glob("step-*")))
    for step in range(found, 6):
        (folder / f"step-{step}").write_text(f"{step}", encoding="utf-8")
        if step == found + 1:
            note(notes, found)
            if found < 4:
                os._exit(1)
    return {"steps": np.array([found])}


@per_worker
def loaded(name: str, notes: Path) -> str:
    note(notes, 0)
    return name


def using_what_is_loaded(notes: Path) -> Mapping[str, np.ndarray]:
    loaded("model", notes)
    return {"process": np.array([os.getpid()])}


def waiting(value: int, notes: Path) -> Mapping[str, np.ndarray]:
    """Ends when it is told to."""
    note(notes, value)
    while not (notes / "go on").exists():
        time.sleep(0.01)
    return {"value": np.array([value])}


def process() -> int:
    return os.getpid()


def refuse(key: str) -> None:
    raise UserError(f"{key}: no such thing; name another")


def devices_seen() -> Mapping[str, np.ndarray]:
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    return {"seen": np.array([seen]), "cores": np.array([os.environ.get("OMP_NUM_THREADS", "")])}
