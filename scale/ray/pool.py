"""Workers on a Ray cluster: actors that hold a share of a machine, do one item at a time, and keep the model between.

A worker belongs to its node and is never restarted: one that died is let go, and a new one is started wherever there is
room. So a node that is gone takes no items with it, and one that joins is used.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scale.config import RayConfig
from scale.engine import Item, Share, do


class ItemWorker:
    """What runs in a worker's process, all of it in one thread. Libraries come with the first item that needs them."""

    def __init__(self, threads: int, gpus: float) -> None:
        self.threads = threads
        os.environ["OMP_NUM_THREADS"] = str(threads)
        if not gpus:  # Ray hides graphics processors from those alone that hold others
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def begin(self) -> None:
        """Answered when the worker is ready."""

    def do(self, item: Item, folder: Path) -> None:
        self.settle()
        do(item, folder)

    def ask(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        self.settle()
        return function(*arguments, **named)

    def settle(self) -> None:
        """Torch, if it is here by now, computes in as many threads as the worker has."""
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(self.threads)


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, or what passes for one."""

    name: str
    address: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Part:
    """What one worker holds of a node, and how many such parts the node has."""

    cpus: float
    gpus: float
    count: int


@dataclass(frozen=True)
class Worker:
    node: Node
    actor: Any


def living_nodes() -> list[Node]:
    return [
        Node(node["NodeID"], node["NodeManagerAddress"], held.get("CPU", 0.0), held.get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"] and (held := node["Resources"]) is not None
    ]


def parts(node: Node, share: Share, cpus: float, gpus: float) -> Part:
    """A node cut up for workers; ``cpus`` and ``gpus`` are what those hold that share it."""
    if share == "cores":
        return Part(node.cpus, 0, int(node.cpus >= 1))
    if share == "machine":
        return Part(node.cpus, node.gpus, int(node.cpus >= 1 and node.gpus >= 1))
    count = times(node.cpus, cpus)
    if gpus:  # a fraction never reaches across two
        count = min(count, int(node.gpus) * times(1, gpus) if gpus < 1 else times(node.gpus, gpus))
    return Part(cpus, gpus, count)


def times(whole: float, part: float) -> int:
    """How often a part goes into the whole: ten times for 0.1 into 1, whatever floating point says."""
    return int(whole / part + 1e-9)


def last_line(error: Exception) -> str:
    """Of a traceback that came as text: the exception itself."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()


class Pool:
    """The workers of one share.

    Args:
        share: What each holds.
        config: Of the cluster.
    """

    def __init__(self, share: Share, config: RayConfig) -> None:
        self.share, self.config = share, config
        self.idle: list[Worker] = []
        self.starting: dict[Any, Worker] = {}
        self.busy: dict[Any, Worker] = {}
        self.stillborn: Counter[str] = Counter()
        self.complaint = ""

    @property
    def workers(self) -> list[Worker]:
        return [*self.idle, *self.starting.values(), *self.busy.values()]

    def serves(self, share: Share) -> bool:
        """Whether its workers hold what those of another share would; from then on it is that share's."""
        if share != self.share:
            nodes, other = living_nodes(), Pool(share, self.config)
            pairs = [(self.part_of(node, nodes), other.part_of(node, nodes)) for node in nodes]
            if self.config.workers or any(own != wanted and own.count + wanted.count for own, wanted in pairs):
                return False
            self.share = share
        return True

    def part_of(self, node: Node, nodes: list[Node]) -> Part:
        gpus = self.config.gpus_per_worker
        if gpus is None:
            gpus = float(any(other.gpus >= 1 for other in nodes))
        return parts(node, self.share, self.config.cpus_per_worker, gpus)

    def room(self) -> int:
        """Workers that the nodes alive now could hold."""
        nodes = living_nodes()
        return sum(self.free(node, nodes, []) for node in nodes)

    def grow(self, wanted: int) -> None:
        """Start workers where there is room, node by node in turn, until there are as many as wanted."""
        if self.share == "worker" and self.config.workers:
            wanted = min(wanted, self.config.workers)
        nodes = living_nodes()
        missing, held = wanted - len(self.workers), [worker.node.name for worker in self.workers]
        vacant = [(held.count(n.name) + i, n) for n in nodes for i in range(self.free(n, nodes, held))]
        for _, node in sorted(vacant, key=lambda place: place[0])[: max(0, missing)]:
            self.start(node, self.part_of(node, nodes))

    def free(self, node: Node, nodes: list[Node], held: list[str]) -> int:
        if self.stillborn[node.name] >= self.config.attempts:
            return 0
        return max(0, self.part_of(node, nodes).count - held.count(node.name))

    def start(self, node: Node, part: Part) -> None:
        there = NodeAffinitySchedulingStrategy(node.name, soft=False)
        held = {"num_cpus": part.cpus, "num_gpus": part.gpus, "max_restarts": 0, "scheduling_strategy": there}
        threads = max(1, int(self.config.cpus_per_worker))
        actor: Any = ray.remote(ItemWorker).options(**held).remote(threads, part.gpus)
        self.starting[actor.begin.remote()] = Worker(node, actor)

    def do(self, worker: Worker, item: Item, folder: Path) -> Any:
        """Give an idle worker an item; the promise of its end."""
        return self.employ(worker, worker.actor.do.remote(item, folder))

    def ask(
        self, worker: Worker, function: Callable[..., Any], arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> Any:
        return self.employ(worker, worker.actor.ask.remote(function, arguments, named))

    def employ(self, worker: Worker, promise: Any) -> Any:
        self.idle.remove(worker)
        self.busy[promise] = worker
        return promise

    def wait(self, seconds: float) -> list[Any]:
        """Wait until something has come to its end; the promises of work that has. New workers are then idle."""
        waiting = [*self.busy, *self.starting]
        if not waiting:
            return []
        ended, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        if not ended:
            ended, _ = ray.wait(waiting, num_returns=1, timeout=seconds)
        for promise in ended:
            if promise in self.starting:
                self.welcome(promise)
        return [promise for promise in ended if promise in self.busy]

    def welcome(self, promise: Any) -> None:
        worker = self.starting.pop(promise)
        try:
            ray.get(promise)
        except ray.exceptions.RayError as error:
            self.stillborn[worker.node.name] += 1
            self.complaint = f"; on {worker.node.address} a worker did not start: {last_line(error)}"
            return
        self.idle.append(worker)

    def keep(self, promise: Any) -> Worker:
        """A worker whose work has ended is free for more."""
        worker = self.busy.pop(promise)
        self.idle.append(worker)
        return worker

    def let_go(self, promise: Any) -> Worker:
        """A worker that failed is not trusted with more: a graphics processor may have been left in disorder."""
        worker = self.busy.pop(promise)
        ray.kill(worker.actor, no_restart=True)
        return worker

    def stop(self, busy_only: bool = False) -> None:
        for worker in list(self.busy.values()) if busy_only else self.workers:
            ray.kill(worker.actor, no_restart=True)
        self.busy.clear()
        if not busy_only:
            self.idle.clear()
            self.starting.clear()
