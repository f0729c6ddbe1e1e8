"""What a call takes: core seconds of all threads on a processor, seconds that pass on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

#: A call is repeated until it has taken so long in all, or so often.
ENOUGH_SECONDS, ENOUGH_CALLS = 0.3, 20


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    """The median over a few calls, after one that does not count."""
    call()
    found: list[float] = []
    while not found or (sum(found) < ENOUGH_SECONDS and len(found) < ENOUGH_CALLS):
        before = now(device)
        call()
        found.append(max(now(device) - before, 1e-9))
    return sorted(found)[len(found) // 2]
