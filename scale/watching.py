"""Where a whole run is: every task is shown as part of its stage, and those who keep an account are told, seldom."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from scale.progress import Progress, Task

#: Seconds between two accounts of one task.
INTERVAL = 10.0


@dataclass(frozen=True)
class Account:
    """Where a run is.

    Args:
        state: At work, or how it ended.
        stage: Its name; empty before the first.
        number: Of the stage, from 1.
        of: How many stages there are.
        task: What the stage is at; empty between tasks.
        done: Items of the task, those of an earlier process included.
        total: Items of the task.
        failed: Items set aside.
        rate: Items per second since the task began in this process; 0 before the first.
        seconds: Since the stage began in this process.
        reason: Why it ended, if it failed.
    """

    state: Literal["running", "done", "failed", "stopped"] = "running"
    stage: str = ""
    number: int = 0
    of: int = 0
    task: str = ""
    done: int = 0
    total: int = 0
    failed: int = 0
    rate: float = 0.0
    seconds: float = 0.0
    reason: str = ""

    @property
    def seconds_left(self) -> float | None:
        """Of the task, if its rate is known."""
        return (self.total - self.done - self.failed) / self.rate if self.rate and self.task else None


class Observer(Protocol):
    """One who keeps an account."""

    def told(self, account: Account) -> None:
        """Something has changed: seldom within a task, at once where a task, a stage or the run begins or ends."""

    def stage_done(self, account: Account) -> None:
        """A stage is finished, after so many seconds."""


class WatchedTask:
    def __init__(self, watch: Watch, shown: Task, done: int) -> None:
        self.watch, self.shown, self.begun, self.started = watch, shown, done, time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self.shown.advance(steps)
        self.count(done=self.watch.account.done + steps)

    def fail(self, steps: int = 1) -> None:
        self.shown.fail(steps)
        self.count(failed=self.watch.account.failed + steps)

    def count(self, **changes: int) -> None:
        account = replace(self.watch.account, **changes)  # type: ignore[arg-type]
        took = time.monotonic() - self.started
        self.watch.change(replace(account, rate=(account.done - self.begun) / took if took > 0 else 0.0))


class Watch:
    """Progress of a run: shown by another, and told to observers. An observer that fails ends nothing but itself."""

    def __init__(self, shown: Progress, observers: Sequence[Observer] = ()) -> None:
        self.shown, self.observers = shown, list(observers)
        self.account, self.last, self.begun = Account(), float("-inf"), time.monotonic()

    def say(self, line: str) -> None:
        self.shown.say(line)

    def change(self, account: Account, at_once: bool = False) -> None:
        now = time.monotonic()
        self.account = replace(account, seconds=now - self.begun)
        if at_once or now - self.last >= INTERVAL:
            self.last = now
            self.each("told")

    def each(self, what: str) -> None:
        for observer in list(self.observers):
            try:
                getattr(observer, what)(self.account)
            except OSError as error:
                self.observers.remove(observer)
                self.shown.say(f"  progress is no longer kept by {type(observer).__name__}: {error}")

    @contextmanager
    def run(self) -> Iterator[None]:
        """Within, a run is at work; afterwards it is done, failed or stopped. One that makes no stage says nothing."""
        try:
            yield
        except KeyboardInterrupt:
            self.end(state="stopped")
            raise
        except Exception as error:
            self.end(state="failed", reason=" ".join(str(error).split()) or type(error).__name__)
            raise
        self.end(state="done", task="")

    def end(self, **changes: Any) -> None:
        if self.account.stage:
            self.change(replace(self.account, **changes), at_once=True)

    @contextmanager
    def stage(self, name: str, number: int, of: int) -> Iterator[None]:
        self.begun = time.monotonic()
        self.change(Account(stage=name, number=number, of=of), at_once=True)
        yield
        self.change(replace(self.account, task="", rate=0.0), at_once=True)
        self.each("stage_done")

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Task]:
        place = f"{self.account.number}/{self.account.of} {self.account.stage}, " if self.account.stage else ""
        with self.shown.task(place + label, total, done) as shown:
            self.change(replace(self.account, task=label, done=done, total=total, failed=0, rate=0.0), at_once=True)
            yield WatchedTask(self, shown, done)
        self.change(self.account, at_once=True)
