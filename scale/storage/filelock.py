"""A lock on a file. The system lets go of it with its process; a shared file system, with its holder's whole machine.

That may take minutes, for which whoever comes next waits, if the holder was on another machine and gives no sign of
life.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from scale.errors import UserError
from scale.storage import holders


@contextmanager
def locked(path: Path, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of what users call ``name``; refused in one line while another is at work there."""
    with open(path, "a+b") as file:
        if not free(file):
            outlast(file, path, name, say)
        file.truncate(0)
        file.write(holders.content_of(holders.this_process()))
        file.flush()
        try:
            with signs_of_life(path):
                yield
        finally:
            file.truncate(0)


def free(file: IO[bytes]) -> bool:
    """Whether the lock could be had, and is now held."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def outlast(file: IO[bytes], path: Path, name: str, say: Callable[[str], None]) -> None:
    """Return with the lock once the system has taken it from a holder that is gone; refused if it is not gone."""
    holder = holder_of(path)
    if holder is None or holder["host"] == holders.machine():  # here the lock goes with the process
        raise at_work(name)
    say(holders.waiting_for(name, holder, holders.STALE_SECONDS))
    last = (os.stat(path).st_mtime_ns, False)
    if holders.silent(lambda: (os.stat(path).st_mtime_ns, free(file)), last, holders.STALE_SECONDS):
        raise UserError(
            f"folder: {name} is locked by {holders.described(holder)}, which gave no sign of life for "
            f"{holders.STALE_SECONDS / 60:g} minutes; if it is gone, delete {path}"
        )
    if not free(file):
        raise at_work(name)
    say(f"lock of {holders.described(holder)} taken over: it has ended")


def at_work(name: str) -> UserError:
    return UserError(f"folder: another balmer is at work in {name}; wait for it or stop it")


def holder_of(path: Path) -> Mapping[str, Any] | None:
    """Who has written into the lock; None if that was an older version, or is being written."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError:
        return None
    return found


@contextmanager
def signs_of_life(path: Path) -> Iterator[None]:
    """The time of the file is that of its holder's last sign of life."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(holders.RENEW_SECONDS):
            with suppress(OSError):
                os.utime(path)

    renewing = threading.Thread(target=renew, name="balmer lock", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
