"""Sides that take turns at one job, and the statistics of their repetitions."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.jobs import Job
from benchmarks.worker import Worker

OURS = "ours"
Measured = dict[str, Any]
Jobs = dict[str, Job]


def sides(job: Job, fused: bool) -> Jobs:
    """What each side does: the same, but that devinterp may also be given a leaner loss."""
    jobs = {OURS: job, "devinterp": job}
    return {**jobs, "devinterp, fused loss": replace(job, peer_loss="fused")} if fused else jobs


@contextmanager
def workers(names: Sequence[str], threads: int) -> Iterator[dict[str, Worker]]:
    """One process for every kind of side; variants of one side share theirs."""
    with ExitStack() as stack:
        kinds = {kind: stack.enter_context(Worker(kind, threads)) for kind in dict.fromkeys(map(kind_of, names))}
        yield {name: kinds[kind_of(name)] for name in names}


def kind_of(side: str) -> str:
    return side.split(",")[0]


def repeat(jobs: Jobs, repeats: int) -> list[Measured]:
    """Outcomes by side, and the rates of matrix products under ``rates``, taken in turn; the order alternates."""
    job, found = jobs[OURS], []
    warm = replace(job, components=job.components[-1:], contexts=job.batch, chains=2, draws=2, burn_in=0, full=False)
    with workers([*jobs, "rates"], job.threads) as crew:
        for side in jobs:
            crew[side].do(warm)
        for repetition in range(repeats):
            order = list(jobs) if repetition % 2 == 0 else list(reversed(jobs))
            outcomes = {side: crew[side].do(jobs[side]) for side in order}
            found.append({**outcomes, "rates": crew["rates"].do(job)["seconds"]})
    return found


def seconds(found: list[Measured], side: str) -> list[float]:
    return [outcome[side]["seconds"]["restricted"] for outcome in found]


@dataclass(frozen=True)
class Spread:
    """Median and range of repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:,.2f} ({self.low:,.2f} to {self.high:,.2f})"


def compare(values: Mapping[str, Sequence[float]]) -> dict[str, Spread]:
    """Of each side, and the ratio of ours to each other side, repetition by repetition."""
    spreads = {side: Spread.of(each) for side, each in values.items()}
    for side, each in values.items():
        if side != OURS:
            ratios = [mine / theirs for mine, theirs in zip(values[OURS], each, strict=True)]
            spreads[f"ours / {side}"] = Spread.of(ratios)
    return spreads


def fresh(side: str, job: Job) -> Measured:
    """The outcome in a process of its own."""
    with Worker(kind_of(side), job.threads) as worker:
        return worker.do(job)
