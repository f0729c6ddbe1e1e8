"""Items on every machine of a Ray cluster. Same items, same bytes as the local engine.

The folder that shards are written into is on a file system that all machines see. An item that raises, or under which
its worker dies, is tried again, on another node if there is one; after `ray.attempts` it is set aside by name while the
rest is done. Nodes that die under it are counted apart (`ray.node_deaths`). What its attempts said is in
``logs/STAGE/ITEM.log`` of the run folder.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from scale.answers import Answer
from scale.config import RayConfig
from scale.engine import Item, Share, is_done
from scale.errors import SetAsideError, UserError
from scale.progress import Progress
from scale.ray.losses import Loss
from scale.ray.pool import Pool, living_nodes
from scale.ray.work import Patience, Work

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

LOGS = "logs"


def check_reachable(address: str) -> None:
    """Somebody listens there: Ray itself would go on asking for minutes."""
    host, colon, port = address.rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def join(config: RayConfig) -> None:
    """Connect this process to the cluster, or start one on this machine; a process has one connection at most."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if config.address:
        try:
            check_reachable(config.address)
            ray.init(address=config.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split(". ")[0].split())
            raise UserError(f"ray.address: no cluster to be joined at {config.address} ({reason})") from error
        return
    dashboard = bool(config.dashboard_host)
    # Not whatever cluster this machine may once have been part of.
    ray.init(
        address="local",
        include_dashboard=dashboard,
        dashboard_host=config.dashboard_host if dashboard else "127.0.0.1",
        **quiet,
    )


@contextmanager
def ray_engine(config: RayConfig, root: Path) -> Iterator[RayEngine]:
    """The engine of one run; afterwards nothing of it is left running."""
    engine = RayEngine(config, root)
    try:
        yield engine
    finally:
        engine.close()


class RayEngine:
    """Items on the actors of a cluster, which is joined when the first of them comes.

    Args:
        config: What a worker holds, and how often an item is tried.
        root: The run folder.
    """

    def __init__(self, config: RayConfig, root: Path) -> None:
        self.config, self.root = config, root
        self.pool: Pool | None = None
        self.joined = False

    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        left = [item for item in items if not is_done(item, folder)]
        shares: dict[Share, list[Item]] = {}
        for item in left:
            shares.setdefault(item.share, []).append(item)
        lines: list[str] = []
        with progress.task(label, total=len(items), done=len(items) - len(left)) as task:
            for share, own in shares.items():
                pool = self.pool_of(share)
                work = Work(own, folder, self.logs(folder), self.config, pool, progress.say, task)
                lines += work.carry_out()
        if lines:
            raise SetAsideError(
                f"{len(lines)} of {len(items)} {label} failed too often and were set aside; what else could be done is "
                f"done, and the same command tries them again:\n" + "\n".join(lines)
            )

    def logs(self, folder: Path) -> Path:
        """Where the items of a folder of the run have their logs."""
        stage, *inner = folder.relative_to(self.root).parts
        return self.root.joinpath(LOGS, stage.removesuffix(".part"), *inner)

    def ask(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        attempts = deaths = 0
        while True:
            pool = self.pool_of("worker")
            promise = self.asked(pool, function, arguments, named)
            try:
                answer: Result = ray.get(promise)
            except ray.exceptions.RayTaskError as error:
                pool.let_go(promise)
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:
                node_died = Loss(pool.let_go(promise), error).settled()
                attempts, deaths = attempts + (not node_died), deaths + node_died
                if attempts == self.config.attempts or deaths == self.config.node_deaths:
                    raise
            else:
                pool.keep(promise)
                return answer

    def together(
        self,
        function: Callable[..., Answer],
        count: int,
        arguments: Mapping[str, Any],
        folder: Path,
        reads: tuple[str, ...] = (),
    ) -> Answer:
        if count == 1:
            return self.ask(function, **arguments)
        from scale.ray.train import train_together

        self.connect()
        self.release()
        return train_together(function, count, arguments, self.config, folder)

    def asked(self, pool: Pool, function: Callable[..., Any], arguments: Any, named: Any) -> Any:
        """The promise of an answer, once there is a worker."""
        watch = Patience(self.config)
        while not pool.idle:
            pool.grow(1)
            watch.check(pool)
            pool.wait(1.0)
        return pool.ask(pool.idle[0], function, arguments, named)

    def pool_of(self, share: Share) -> Pool:
        """Workers are kept from stage to stage while they hold what is needed; a machine has no room for two kinds."""
        self.connect()
        if self.pool is None or not self.pool.serves(share):
            self.release()
            self.pool = Pool(share, self.config)
        return self.pool

    def connect(self) -> None:
        if not ray.is_initialized():
            join(self.config)
            self.joined = True

    def release(self) -> None:
        """Give back all that workers hold."""
        if self.pool is not None:
            self.pool.stop()
            self.pool = None

    def close(self) -> None:
        """Leave the cluster as it was found."""
        self.release()
        if self.joined:
            ray.shutdown()
            self.joined = False


def on_every_node(function: Callable[..., Result], *arguments: Any) -> dict[str, Result]:
    """A function's answer from every machine of the cluster that this process is connected to, by address and node.

    It takes no core, so that machines answer while they work. One that dies meanwhile is left out.
    """
    asked = {}
    for node in living_nodes():
        there = NodeAffinitySchedulingStrategy(node.name, soft=False)
        remote = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        asked[f"{node.address} {node.name[:8]}"] = remote.remote(*arguments)
    answers = {}
    for name, promise in asked.items():
        try:
            answers[name] = ray.get(promise)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError:
            continue
    return answers


def ask_every_node(config: RayConfig, function: Callable[..., Result], *arguments: Any) -> dict[str, Result]:
    """The same, of the cluster that settings name; afterwards this process is connected as it was."""
    if ray.is_initialized():
        return on_every_node(function, *arguments)
    join(config)
    try:
        return on_every_node(function, *arguments)
    finally:
        ray.shutdown()
