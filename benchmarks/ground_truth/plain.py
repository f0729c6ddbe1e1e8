"""One forward and one backward pass of one batch through the plain model: the yardstick for memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.jobs import Clock, Job, Outcome


def run(job: Job, model: Any, data: tuple[np.ndarray, np.ndarray], folder: Path) -> Outcome:
    started, clock = time.perf_counter(), Clock(job.device)
    ids = torch.from_numpy(data[1][: job.batch]).to(job.device)
    with clock.phase("restricted"):
        logits = model(ids, use_cache=False).logits[:, :-1]
        functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    return Outcome(seconds=clock.seconds, wall=time.perf_counter() - started, bytes={})
