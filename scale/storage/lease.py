"""A lock on a store: an object that is put only where there is none, and renewed for as long as its holder works.

There is no lock on a store that goes with its process. A holder that was killed is told apart by not renewing: after
`STALE_SECONDS` by the store's own clock another may take over, and at once where the process is seen to be gone. So one
that comes sooner watches the lock until then, and is refused as soon as it is renewed.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from scale.errors import UserError
from scale.storage.holders import (
    RENEW_SECONDS,
    STALE_SECONDS,
    content_of,
    described,
    machine,
    silent,
    this_process,
    waiting_for,
)
from scale.storage.objects import Found, LostError, Objects, UnconditionalError, server_time

KEY = "lock.json"
#: Stores tell times in whole seconds.
CLOCK_SECONDS = 1.0
#: Tokens of the locks that this process holds.
HELD: set[str] = set()


def at_work(pid: int, token: str) -> bool:
    """Whether a process of this machine may still hold its lock; this one knows which it holds."""
    if pid == os.getpid():
        return token in HELD
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Lease:
    """The lock while it is held."""

    def __init__(self, objects: Objects, tag: str, token: str) -> None:
        self.objects, self.tag, self.token = objects, tag, token
        self.renewed = time.monotonic()
        self.lost = False
        self.ended = threading.Event()

    def content(self) -> bytes:
        return lock_content(self.token)

    def renew(self) -> None:
        tag = self.objects.swap(KEY, self.content(), self.tag)
        if tag is None:
            self.lost = True
        else:
            self.tag, self.renewed = tag, time.monotonic()

    def keep_renewing(self) -> None:
        while not self.lost and not self.ended.wait(RENEW_SECONDS):
            with suppress(UserError):  # the network may come back before the lock is stale
                self.renew()

    def check(self) -> None:
        """Refuse to go on where another may be at work by now."""
        if self.lost or time.monotonic() - self.renewed > STALE_SECONDS:
            raise UserError(
                f"folder: the lock of {self.objects.url} was not renewed for {STALE_SECONDS / 60:g} minutes and may be "
                "another's; give the same command again: finished shards are kept"
            )

    def end(self, renewing: threading.Thread, release: bool = True) -> None:
        self.ended.set()
        HELD.discard(self.token)
        if release:
            renewing.join()
            with suppress(UserError):  # what was done is done, and the lock is stale before long
                self.release()

    def release(self) -> None:
        found = self.objects.get(KEY)
        if found is not None and json.loads(found.content)["token"] == self.token:
            self.objects.delete([KEY])


def lock_content(token: str) -> bytes:
    return content_of(this_process() | {"token": token, "renewed": time.time_ns()})


def standing(found: Found, objects: Objects) -> str:
    """Why a lock that is there may be taken over; empty if it may not."""
    held = json.loads(found.content)
    if held["host"] == machine() and not at_work(held["pid"], held["token"]):
        return f"process {held['pid']} no longer holds it"
    since = age(found, objects)
    return f"it was not renewed for {since / 60:.0f} minutes" if since > STALE_SECONDS else ""


def age(found: Found, objects: Objects) -> float:
    """Seconds since the lock was last put, by the store's clock."""
    return (server_time(objects, f"{KEY}.asked-{uuid.uuid4().hex}") - found.put).total_seconds()


def outlasted(found: Found, objects: Objects, say: Callable[[str], None]) -> tuple[Found | None, str]:
    """The lock, and why it may now be taken over; none if it was given back meanwhile, refused if it was renewed."""
    reason, held = standing(found, objects), json.loads(found.content)
    if not reason and held["host"] != machine():
        left = STALE_SECONDS - age(found, objects)
        say(waiting_for(objects.url, held, left))
        while not reason:
            unchanged = silent(lambda: tag_of(objects), found.tag, left + CLOCK_SECONDS)
            now = objects.get(KEY)
            if now is None:
                return None, ""
            if not unchanged:
                held = json.loads(now.content)
                break
            reason, left = standing(now, objects), 0.0
    if not reason:
        raise refusal(objects, held)
    return found, reason


def tag_of(objects: Objects) -> str | None:
    found = objects.get(KEY)
    return None if found is None else found.tag


def refusal(objects: Objects, held: Mapping[str, Any]) -> UserError:
    return UserError(
        f"folder: another balmer is at work in {objects.url} ({described(held)}); wait for it or stop it (its lock "
        f"is taken over once it was not renewed for {STALE_SECONDS / 60:g} minutes)"
    )


def acquire(objects: Objects, say: Callable[[str], None]) -> Lease:
    """Take the lock; refused in one line if another is at work."""
    token = uuid.uuid4().hex
    tag = objects.swap(KEY, lock_content(token), None)
    if tag is None:
        found = objects.get(KEY)
        if found is not None:
            owner = described(json.loads(found.content))
            found, reason = outlasted(found, objects, say)
            if found is not None:
                say(f"lock of {owner} taken over: {reason}")
        tag = objects.swap(KEY, lock_content(token), found.tag if found is not None else None)
    if tag is None:
        raise UserError(f"folder: another balmer has just begun to work in {objects.url}; wait for it or stop it")
    HELD.add(token)
    return Lease(objects, tag, token)


def honours_conditions(objects: Objects) -> bool:
    """Whether a second put that asks for there to be nothing is refused."""
    key = f"{KEY}.asked-{uuid.uuid4().hex}"
    try:
        objects.swap(key, b"first", None)
        return objects.swap(key, b"second", None) is None
    except UnconditionalError:
        return False
    finally:
        objects.delete([key])


@contextmanager
def held(objects: Objects, say: Callable[[str], None]) -> Iterator[Lease | None]:
    """The lock, for as long as the block lasts; None on a store that cannot have one, which is said."""
    if not honours_conditions(objects):
        say(f"{objects.url}: the store knows no conditional writes: see to it yourself that one balmer runs at a time")
        yield None
        return
    lease = acquire(objects, say)
    renewing = threading.Thread(target=lease.keep_renewing, name="balmer lock", daemon=True)
    renewing.start()
    try:
        yield lease
    except LostError:
        lease.end(renewing, release=False)  # the store would be waited for once more
        raise
    except BaseException:
        lease.end(renewing)
        raise
    lease.end(renewing)
