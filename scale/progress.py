"""Progress of long work: a bar on a terminal, plain lines in a log, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

#: Seconds between two lines of one task in a log.
LOG_INTERVAL = 15.0


class Task(Protocol):
    def advance(self, steps: int = 1) -> None: ...

    def fail(self, steps: int = 1) -> None:
        """Items are set aside: they are not done, and will not be."""


class Progress(Protocol):
    def say(self, line: str) -> None: ...

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Task]: ...


class SilentTask:
    def advance(self, steps: int = 1) -> None:
        return

    def fail(self, steps: int = 1) -> None:
        return


class Silent:
    """Says nothing: for ``--quiet`` and for library use."""

    def say(self, line: str) -> None:
        return

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Task]:
        yield SilentTask()


def pace(rate: float) -> str:
    """Items per second, minute or hour: whichever gives a number of at least one."""
    for seconds, name in ((1, "s"), (60, "min")):
        if rate * seconds >= 1:
            return f"{rate * seconds:.3g} a {name}"
    return f"{rate * 3600:.2g} an h"


class LogTask:
    def __init__(self, label: str, total: int, done: int, stream: TextIO) -> None:
        self.label, self.total, self.done, self.stream = label, total, done, stream
        self.started = self.last = time.monotonic()
        self.first, self.failed = done, 0

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.last >= LOG_INTERVAL and self.done + self.failed < self.total:
            self.last = now
            print(f"  {self.label}: {self.done}/{self.total}, {self.pace(now)}", file=self.stream, flush=True)

    def fail(self, steps: int = 1) -> None:
        self.failed += steps
        print(f"  {self.label}: {self.failed} of {self.total} set aside", file=self.stream, flush=True)

    def pace(self, now: float) -> str:
        """How fast, and how long that will take."""
        each = (now - self.started) / (self.done - self.first)
        left = f"{each * (self.total - self.done - self.failed):.0f} s left"
        return f"{pace(1 / each)}, {left}" + (f", {self.failed} set aside" if self.failed else "")


class Log:
    """Plain lines, one when a task has moved on and some time has passed."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Task]:
        yield LogTask(label, total, done, self.stream)


class BarTask:
    def __init__(self, bar: object, identity: object) -> None:
        self.bar, self.identity, self.failed = bar, identity, 0

    def advance(self, steps: int = 1) -> None:
        self.bar.advance(self.identity, steps)  # type: ignore[attr-defined]

    def fail(self, steps: int = 1) -> None:
        self.failed += steps
        self.bar.update(self.identity, failed=f"{self.failed} set aside")  # type: ignore[attr-defined]


class Bars:
    """A rich progress bar that disappears when its task is done."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self.console = Console(file=stream, highlight=False, markup=False)

    def say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Task]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failed]}"),
        )
        with RichProgress(*columns, console=self.console, transient=True) as bar:
            yield BarTask(bar, bar.add_task(label, total=total, completed=done, failed=""))


def for_stream(quiet: bool, stream: TextIO | None = None) -> Progress:
    """The progress that suits where the output goes; results go to stdout, progress to stderr."""
    stream = stream or sys.stderr
    if quiet:
        return Silent()
    return Bars(stream) if stream.isatty() else Log(stream)
