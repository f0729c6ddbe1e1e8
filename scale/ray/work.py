"""The items of one call, on their way through a pool: what waits, what runs, what failed, what is not yet seen here."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from scale.config import RayConfig
from scale.engine import Item, is_done
from scale.errors import UserError
from scale.progress import Task
from scale.ray.losses import Loss
from scale.ray.pool import Pool, Worker

#: Seconds between two looks at the nodes, and at what is expected at any moment.
LOOK, SOON = 2.0, 0.05
NODE_DIED, WORKER_DIED = "its node died", "its worker died"
#: What Ray dresses up a traceback with.
COLOUR = re.compile(r"\x1b\[\d+m")
#: Lines of what failed.
MOST_LINES = 20


@dataclass(eq=False)
class Job:
    """An item, how often it failed, on which nodes, and how many nodes died under it. Only ever equal to itself:
    arguments may be arrays."""

    item: Item
    failures: int = 0
    deaths: int = 0
    tried: set[str] = field(default_factory=set)


class Patience:
    """Ends the wait for a first worker."""

    def __init__(self, config: RayConfig) -> None:
        self.config, self.since = config, time.monotonic()

    def check(self, pool: Pool) -> None:
        """Raise if nothing has come in time; at once if nothing can come."""
        if pool.idle or pool.busy:
            self.since = time.monotonic()
        waited = time.monotonic() - self.since
        alone = not self.config.address and not pool.workers
        if (alone or waited > self.config.patience) and not pool.room():
            gpus = self.config.gpus_per_worker
            what = f"{self.config.cpus_per_worker:g} cores" + (f" and {gpus:g} GPUs" if gpus else "")
            raise UserError(
                f"ray.cpus_per_worker, ray.gpus_per_worker: no node has room for a worker of {what}{pool.complaint}"
            )
        if waited > self.config.patience:
            raise UserError(
                f"ray.patience: no worker within {waited:.0f} s; others hold the cluster's cores or GPUs, or its nodes "
                f"cannot start one{pool.complaint or ' (ray status tells)'}"
            )


class Work:
    """Carries items through.

    Args:
        items: All of one share.
        folder: Where their shards go.
        logs: Where what failed is written down.
        config: Of the cluster.
        pool: Workers of that share.
        say: Tells people.
        task: Told of every item done.
    """

    def __init__(
        self,
        items: Sequence[Item],
        folder: Path,
        logs: Path,
        config: RayConfig,
        pool: Pool,
        say: Callable[[str], None],
        task: Task,
    ) -> None:
        self.folder, self.logs, self.config, self.pool, self.say, self.task = folder, logs, config, pool, say, task
        self.waiting = [Job(item) for item in items]
        self.running: dict[Any, Job] = {}
        self.lost: list[tuple[Job, Loss]] = []
        self.unseen: dict[str, tuple[float, Item]] = {}
        self.aside: dict[str, str] = {}
        self.looked = -math.inf
        self.patience = Patience(config)

    def carry_out(self) -> list[str]:
        """Do all that can be done; a line for every item that was set aside."""
        try:
            while self.waiting or self.running or self.lost or self.unseen:
                self.step()
        finally:
            self.pool.stop(busy_only=True)
        lines = [f"  {shard}: {reason}; {self.log_of(shard)}" for shard, reason in sorted(self.aside.items())]
        more = [f"  and {len(lines) - MOST_LINES} more in {self.logs}"] if len(lines) > MOST_LINES else []
        return lines[:MOST_LINES] + more

    def step(self) -> None:
        if time.monotonic() - self.looked >= LOOK:
            self.looked = time.monotonic()
            self.pool.grow(len(self.waiting) + len(self.running))
        if self.waiting:
            self.patience.check(self.pool)
        self.hand_out()
        for promise in self.pool.wait(LOOK if not (self.unseen or self.lost) else SOON):
            self.take_back(promise)
        if not (self.pool.busy or self.pool.starting):
            time.sleep(SOON)
        self.judge()
        self.look_for_shards()

    def hand_out(self) -> None:
        for worker in list(self.pool.idle):
            job = self.next_for(worker)
            if job is not None:
                self.waiting.remove(job)
                self.running[self.pool.do(worker, job.item, self.folder)] = job

    def next_for(self, worker: Worker) -> Job | None:
        """The first that has not failed on this node, unless there is no other."""
        nodes = {other.node.name for other in self.pool.workers}
        return next((job for job in self.waiting if worker.node.name not in job.tried or nodes <= job.tried), None)

    def take_back(self, promise: Any) -> None:
        job = self.running.pop(promise)
        try:
            ray.get(promise)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            self.failed(job, self.pool.let_go(promise), described(error), str(error))
        except ray.exceptions.RayError as error:
            self.lost.append((job, Loss(self.pool.let_go(promise), error)))
        else:
            self.pool.keep(promise)
            self.unseen[job.item.shard] = (time.monotonic(), job.item)

    def judge(self) -> None:
        """Of workers that died: whether their nodes did."""
        left = []
        for job, loss in self.lost:
            node_died = loss.node_died()
            if node_died is None:
                left.append((job, loss))
            elif node_died:
                self.node_died(job, loss.worker, str(loss.error))
            else:
                self.failed(job, loss.worker, WORKER_DIED, str(loss.error))
        self.lost = left

    def node_died(self, job: Job, worker: Worker, text: str) -> None:
        """Nothing that is held against the item, but for a number that says something of it."""
        job.deaths += 1
        count = f"death {job.deaths} of {self.config.node_deaths}"
        self.note(job, worker, NODE_DIED, count, text, again=job.deaths < self.config.node_deaths)

    def failed(self, job: Job, worker: Worker, reason: str, text: str) -> None:
        job.failures += 1
        job.tried.add(worker.node.name)
        count = f"attempt {job.failures} of {self.config.attempts}"
        self.note(job, worker, reason, count, text, again=job.failures < self.config.attempts)

    def note(self, job: Job, worker: Worker, reason: str, count: str, text: str, again: bool) -> None:
        """Write it down and say it; try again, or set the item aside."""
        log = self.log_of(job.item.shard)
        log.parent.mkdir(parents=True, exist_ok=True)
        heading = f"{time.strftime('%Y-%m-%d %H:%M:%S')}, on {worker.node.address}, {count}: {reason}"
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{heading}\n{COLOUR.sub('', text).rstrip()}\n\n")
        self.say(f"  {job.item.shard}: {count}: {reason}; {log}")
        self.looked = -math.inf
        if again:
            self.waiting.append(job)
        else:
            self.aside[job.item.shard] = reason
            self.task.fail()

    def log_of(self, shard: str) -> Path:
        return self.logs / f"{shard}.log"

    def look_for_shards(self) -> None:
        """A shard counts when it is seen from here: a file system of many machines takes its time, or is not shared."""
        for shard, (since, item) in list(self.unseen.items()):
            if is_done(item, self.folder):
                del self.unseen[shard]
                self.task.advance()
            elif time.monotonic() - since > self.config.patience:
                raise UserError(
                    f"folder: shard {shard} was written by a worker and is not to be seen here after "
                    f"{self.config.patience:g} s; the run folder must be one that all machines see"
                )


def described(error: Any) -> str:
    """The exception itself, on one line."""
    text = " ".join(str(error.cause).split())
    return f"{type(error.cause).__name__}: {text[:200]}" if text else type(error.cause).__name__
