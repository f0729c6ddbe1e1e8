"""What is kept of a run while it is at work: ``progress.json`` for whoever looks, and live metrics by option."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from aux.config import AuxConfig
from aux.logs import live_logger
from balmer.config import RunConfig
from balmer.folder import RunFolder
from scale.progress import pace
from scale.watching import Account, Observer


class Keeper:
    """Keeps where a run is in its folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def told(self, account: Account) -> None:
        who = {"host": socket.gethostname(), "process": os.getpid(), "heard": time.time()}
        self.folder.keep_account({**asdict(account), "seconds_left": account.seconds_left, **who})

    def stage_done(self, account: Account) -> None:
        return


class Metrics:
    """Items per second while a stage is at work, and the seconds of every stage, to the logger of the training.

    A logger is open from the first number of a stage to the end of it: the training of the auxiliary model has one of
    its own, and two at a time get into each other's way.
    """

    def __init__(self, config: AuxConfig) -> None:
        self.config, self.open = config, ExitStack()
        self.logger: Any = None

    def log(self, account: Account, values: Mapping[str, float]) -> None:
        if self.logger is None:
            self.logger = self.open.enter_context(live_logger(self.config, f"run-{account.stage}"))
        self.logger.log_metrics(dict(values), step=int(account.seconds))

    def told(self, account: Account) -> None:
        if account.state != "running":
            self.close()
        elif account.rate:
            counted = {"items": account.done, "failed": account.failed}
            self.log(
                account,
                {f"{account.task}/a second": account.rate} | {f"{account.task}/{k}": v for k, v in counted.items()},
            )

    def stage_done(self, account: Account) -> None:
        self.log(account, {f"seconds/{account.stage}": account.seconds})
        self.close()

    def close(self) -> None:
        if self.logger is not None:
            self.logger.finalize("success")
        self.logger = None
        self.open.close()


def observers(config: RunConfig, folder: RunFolder) -> list[Observer]:
    found: list[Observer] = [Keeper(folder)]
    if config.aux.logger != "csv":
        found.append(Metrics(config.aux))
    return found


def said_of(heard: Mapping[str, Any], working: bool, now: float) -> str:
    """One line for people."""
    ago = f"{max(0, now - heard['heard']):.0f} s ago, by process {heard['process']} on {heard['host']}"
    place = f"stage {heard['number']} of {heard['of']}, {heard['stage']}"
    if heard["state"] == "done":
        return f"at rest: done {ago}"
    if heard["task"]:
        place += f", {heard['task']}: {heard['done']}/{heard['total']}"
    if not working:
        ended = {"failed": f"failed ({heard['reason']})", "stopped": "stopped"}.get(
            heard["state"], "ended without a word"
        )
        return f"at rest: {ended} in {place}; last heard of {ago}"
    if heard["rate"] and heard["task"]:
        place += f", {pace(heard['rate'])}, {heard['seconds_left']:.0f} s left"
    failed = f", {heard['failed']} set aside" if heard["failed"] else ""
    return f"at work: {place}{failed}; last heard of {ago}"
