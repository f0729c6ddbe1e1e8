"""Where the workers of one process compute: each on a GPU of its own, as far as there are GPUs.

A worker is a thread, and every thread has a current GPU, which is what "cuda" without a number means in it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable


def visible_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def available_cores() -> int:
    """Processor cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(device: str) -> int:
    """One for each GPU where the model's device is any of them, one for a single GPU, or one for each core."""
    gpus = visible_gpus()
    if device.startswith("cuda:"):
        return 1
    return gpus if gpus and device in ("auto", "cuda") else available_cores()


def settler(gpus: int) -> Callable[[], None]:
    """What a new worker does first: takes a single thread for what the processor does, and the next GPU in turn."""
    import torch

    turn = itertools.count()

    def settle() -> None:
        torch.set_num_threads(1)
        if gpus:
            torch.cuda.set_device(next(turn) % gpus)

    return settle
