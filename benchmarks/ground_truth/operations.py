"""The operations that a job cannot do without, and how fast this machine does them.

Counted are matrix products (`scale.model.operations`): what lies below the component is the same for all draws and is
not counted. Rates are measured for each kind of product at the job's shapes; necessary operations over rates are the
seconds that nothing built on these products goes below.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.jobs import Clock, Job, Outcome, shape_of
from scale.model.operations import Counts, evaluation, step, times

MEASURED_SECONDS = 0.15


def necessary(job: Job) -> tuple[Counts, Counts]:
    """Of all restricted chains of a job: sampling, and evaluation of L and of the measured tokens."""
    shape, sampling, probing = shape_of(job.model), Counts(), Counts()
    minibatch = job.batch * job.context_length
    evaluated = (job.contexts + job.reference) * job.context_length
    for component in job.components:
        sampling += times(step(shape, component, job.context_length), job.chains * job.steps * minibatch)
        probing += times(evaluation(shape, component, job.context_length), job.total_draws * evaluated)
    return sampling, probing


def least_seconds(counts: Counts, rates: dict[str, float]) -> float:
    return sum(count / rates[kind] for kind, count in counts.items())


def products(job: Job, rows: int) -> dict[str, tuple[float, Callable[[], torch.Tensor]]]:
    """Per kind: operations of one call, and the call."""
    shape, device = shape_of(job.model), job.device
    pairs = {
        "qkv": (shape.width, 3 * shape.width),
        "dense": (shape.width, shape.width),
        "up": (shape.width, shape.intermediate),
        "down": (shape.intermediate, shape.width),
        "unembed": (shape.width, shape.vocabulary),
    }
    found: dict[str, tuple[float, Callable[[], torch.Tensor]]] = {}
    for kind, (inner, outer) in pairs.items():
        left, right = torch.randn(rows, inner, device=device), torch.randn(outer, inner, device=device)
        into = torch.empty(rows, outer, device=device)
        found[kind] = (2.0 * rows * inner * outer, partial(torch.mm, left, right.T, out=into))
    size, length = shape.width // shape.heads, job.context_length
    query = torch.randn(rows // length * shape.heads, length, size, device=device)
    scores = torch.empty(len(query), length, length, device=device)
    operations = 2.0 * query.numel() * length
    found["attention"] = (operations, partial(torch.bmm, query, query.mT, out=scores))
    return found


def rate(job: Job, operations: float, call: Callable[[], torch.Tensor]) -> float:
    """Operations per second (CPU seconds on a CPU), the median of three."""
    clock = Clock(job.device)
    repeated(call, 1)
    before = clock.now()
    repeated(call, 3)
    calls = 1 + int(MEASURED_SECONDS / max(clock.now() - before, 1e-6) * 3)
    found = []
    for _ in range(3):
        before = clock.now()
        repeated(call, calls)
        found.append(operations * calls / (clock.now() - before))
    return statistics.median(found)


def repeated(call: Callable[[], torch.Tensor], calls: int) -> None:
    for _ in range(calls):
        call()


def run(job: Job, model: Any, data: tuple[np.ndarray, np.ndarray], folder: Path) -> Outcome:
    """The best of one minibatch's rows and four times as many, per kind, in place of seconds."""
    started, best = time.perf_counter(), dict[str, float]()
    for rows in (job.batch * job.context_length, 4 * job.batch * job.context_length):
        for kind, (operations, call) in products(job, rows).items():
            best[kind] = max(best.get(kind, 0.0), rate(job, operations, call))
    return Outcome(seconds=best, wall=time.perf_counter() - started, bytes={})
