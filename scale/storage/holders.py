"""Who holds a lock, and how a holder that is at work is told from one that died: by its signs of life.

A process of this machine can be looked for. Of one elsewhere, only what it leaves is seen: a lock that it renews.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

#: A holder gives a sign of life so often, and counts as dead after so long without one.
RENEW_SECONDS, STALE_SECONDS = 30.0, 300.0
#: Seconds between two looks for one.
LOOK_SECONDS = 2.0


def machine() -> str:
    """Where process numbers mean what they mean here: this host, since it was started, in this container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def this_process() -> dict[str, Any]:
    """As a lock names its holder."""
    return {"host": machine(), "pid": os.getpid(), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def described(holder: Mapping[str, Any]) -> str:
    return f"process {holder['pid']} on {holder['host'].split()[0]}, since {holder['time']}"


def content_of(holder: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(holder), indent=2, sort_keys=True).encode()


def waiting_for(what: str, holder: Mapping[str, Any], seconds: float) -> str:
    """The line that says so."""
    return (
        f"{what} is locked by {described(holder)}, which is at work or was killed: waiting for a sign of life, "
        f"{seconds:.0f} s at most (Ctrl-C gives up)"
    )


def silent(sign: Callable[[], object], last: object, seconds: float) -> bool:
    """Whether a sign of life stays what it was last for so long; false as soon as it is another, or gone."""
    until = time.monotonic() + seconds
    while sign() == last:
        left = until - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(LOOK_SECONDS, left))
    return False
