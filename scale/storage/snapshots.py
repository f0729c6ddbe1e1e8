"""What lies in an unfinished shard, on a store too, so that another machine can go on from it.

Items that keep files say when these are such that a process could go on from them (`saved`). Where the run lies on a
store, they are then sent: not every time, for all of them are sent anew, and the item waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scale.storage.part import Part

#: Between two times that an unfinished shard is sent: what another machine has to do again at most.
SECONDS = 600.0

#: Of unfinished shards in this process, by their folders, those whose files go to a store.
OPEN: dict[Path, Snapshots] = {}


class Snapshots:
    """An unfinished shard, and when it was last sent."""

    def __init__(self, part: Part, final: Path) -> None:
        self.part, self.final = part, final
        self.sent = time.monotonic()

    def send(self, folder: Path) -> None:
        if time.monotonic() - self.sent >= SECONDS:
            self.part.keep_unfinished(self.final, folder)
            self.sent = time.monotonic()


def saved(folder: Path) -> None:
    """A process that finds what is in ``folder`` now can go on from there."""
    if folder in OPEN:
        OPEN[folder].send(folder)


@contextmanager
def snapshots(part: Part | None, final: Path, folder: Path) -> Iterator[None]:
    """Begin with what another machine had sent of this shard, unless there is more here, and send what comes."""
    if part is None:
        yield
        return
    if not any(folder.iterdir()):
        part.fetch_unfinished(final, folder)
    OPEN[folder] = Snapshots(part, final)
    try:
        yield
    finally:
        del OPEN[folder]
