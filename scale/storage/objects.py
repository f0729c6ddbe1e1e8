"""Objects under a URL: put, get, list and delete, and a put that succeeds only if the object is as it was last seen.

What a store refuses comes out as one line (`scale.errors.UserError`). Requests are tried again for as long as
`RETRY_SECONDS`; whoever is told of a failure after that can give the same command again.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from scale.errors import UserError

Thing = TypeVar("Thing")
Result = TypeVar("Result")

#: The schemes of object stores, and where each looks for credentials.
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
#: Where a store looks for a machine's own credentials when the environment has none.
MACHINE_CREDENTIALS = ("169.254.169.254", "metadata.google.internal")
RETRY_SECONDS = 120.0
#: Of one request, which sends or reads a part of an object.
REQUEST_SECONDS = 300.0
#: Requests at a time.
TOGETHER = 8
CHUNK = 1 << 22


def is_url(folder: str) -> bool:
    return "://" in folder


def checked_url(url: str) -> str:
    """The URL of a folder on a store, without a slash at its end."""
    parts = urlsplit(url)
    if parts.scheme not in CREDENTIALS:
        known = ", ".join(f"{scheme}://" for scheme in (*CREDENTIALS, "file"))
        raise UserError(f"folder: {url} has no scheme that is known here; name a local folder or one of {known}")
    if not parts.netloc or not parts.path.strip("/"):
        raise UserError(f"folder: {url} names no folder; it is {parts.scheme}://BUCKET/FOLDER")
    return f"{parts.scheme}://{parts.netloc}/{parts.path.strip('/')}"


@dataclass(frozen=True)
class Found:
    """An object as it was found: its bytes, the tag that another content would change, and when it was put."""

    content: bytes
    tag: str
    put: datetime


@dataclass
class Traffic:
    """Bytes that this process has sent and received."""

    sent: int = 0
    received: int = 0


class Objects:
    """What lies under a URL. Keys are relative to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.traffic = Traffic()
        self.library, self.store = connect(url)

    def get(self, key: str) -> Found | None:
        """An object as it is now; None if there is none."""
        with explained(self.url, f"read {key}"):
            try:
                answer = self.library.get(self.store, key)
                content, about = bytes(answer.bytes()), answer.meta
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None
        self.traffic.received += len(content)
        return Found(content, about["e_tag"] or "", about["last_modified"])

    def put(self, key: str, content: bytes | Path) -> None:
        """Put an object, whatever was there; a file is sent in parts, and there only when all of it is."""
        with explained(self.url, f"write {key}"):
            self.library.put(self.store, key, content)
        self.traffic.sent += content.stat().st_size if isinstance(content, Path) else len(content)

    def swap(self, key: str, content: bytes, tag: str | None) -> str | None:
        """Put an object in place of the one with this tag, or of none: its new tag, or None if another is there.

        An answer that was lost on its way is asked for again, and finds the object that it has itself put.
        """
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        mode: Any = "create" if tag is None else {"e_tag": tag}
        with explained(self.url, f"write {key}"):
            try:
                answer = self.library.put(self.store, key, content, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                if "NoSuchBucket" in str(error):
                    raise
                there = self.get(key)
                return there.tag if there is not None and there.content == content else None
            except NotSupportedError as error:
                raise UnconditionalError(self.url) from error
        self.traffic.sent += len(content)
        return answer["e_tag"] or ""

    def fetch(self, key: str, path: Path) -> str | None:
        """Write an object to a file; its SHA-256, or None if there is no such object."""
        digest = hashlib.sha256()
        with explained(self.url, f"read {key}"):
            try:
                answer = self.library.get(self.store, key)
            except FileNotFoundError:
                return None
            with named(path), open(path, "wb") as file:
                for part in answer.stream(min_chunk_size=CHUNK):
                    digest.update(part)
                    file.write(part)
                    self.traffic.received += len(part)
        return digest.hexdigest()

    def list(self, prefix: str = "") -> dict[str, int]:
        """Keys that begin with ``prefix``, which ends at a slash, with their sizes in bytes."""
        with explained(self.url, "list what is there"):
            found = self.library.list(self.store, prefix.rstrip("/") or None).collect()
        return {entry["path"]: entry["size"] for entry in found}

    def names(self) -> set[str]:
        """What lies directly under the URL."""
        with explained(self.url, "list what is there"):
            found = self.library.list_with_delimiter(self.store)
        return {entry["path"] for entry in found["objects"]} | set(found["common_prefixes"])

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is none to remove."""
        gone = list(keys)
        with explained(self.url, "remove what was replaced"):
            if gone:
                self.library.delete(self.store, gone)


class LostError(UserError):
    """A store that cannot be reached any more."""


class UnconditionalError(UserError):
    """A store without conditional puts."""

    def __init__(self, url: str) -> None:
        super().__init__(f"folder: the store of {url} knows no conditional writes")


@lru_cache
def open_objects(url: str) -> Objects:
    """One connection for each URL in each process."""
    return Objects(url)


def connect(url: str) -> tuple[Any, Any]:
    """The library, and its store for a URL; credentials and endpoint come from the environment."""
    try:
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise UserError(f"folder: {url} needs the package obstore; pip install '.[cluster]'") from error
    backoff = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=15), "base": 2}
    plain = any(os.environ.get(name, "").startswith("http://") for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL"))
    options: Any = {
        "retry_config": {"retry_timeout": timedelta(seconds=RETRY_SECONDS), "max_retries": 1000, "backoff": backoff},
        "client_options": {"timeout": timedelta(seconds=REQUEST_SECONDS)} | ({"allow_http": True} if plain else {}),
    }
    try:
        return obstore, from_url(url, **options)
    except (BaseError, ValueError) as error:
        raise UserError(f"folder: {url}: {first_line(error)}") from error


@contextmanager
def explained(url: str, doing: str) -> Iterator[None]:
    """What a store refuses, in one line with what can be done."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise UserError(
            f"folder: {url}: not allowed to {doing} ({code(error)}); check {CREDENTIALS[scheme(url)]}"
        ) from error
    except (BaseError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and error.errno is not None:  # a file of this machine
            raise
        raise refusal(url, doing, error) from error


@contextmanager
def named(path: Path) -> Iterator[None]:
    """What the system refuses names the file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def refusal(url: str, doing: str, error: Exception) -> UserError:
    said = str(error)
    if any(place in said for place in MACHINE_CREDENTIALS):
        return UserError(f"folder: no credentials for {url}; set {CREDENTIALS[scheme(url)]} (docs/storage.md)")
    if "NoSuchBucket" in said or "ContainerNotFound" in said:
        return UserError(f"folder: there is no bucket {urlsplit(url).netloc}; make it, or name another than in {url}")
    if re.search(r"error sending request|timed? ?out|connection|error decoding|body error", said, re.IGNORECASE):
        return LostError(
            f"folder: lost the store of {url} (could not {doing} for {RETRY_SECONDS:g} s); check the network and the "
            "endpoint, and give the same command again: finished shards are kept"
        )
    return UserError(f"folder: {url}: could not {doing} ({code(error)}); mend that and give the same command again")


def scheme(url: str) -> str:
    return urlsplit(url).scheme


def code(error: Exception) -> str:
    """The store's own word for it, or the library's first line."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found[1] if found else first_line(error)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def side_by_side(function: Callable[[Thing], Result], things: Sequence[Thing]) -> list[Result]:
    """The results of some calls that wait for a network, in order."""
    if len(things) < 2:
        return [function(thing) for thing in things]
    with ThreadPoolExecutor(min(TOGETHER, len(things))) as pool:
        return list(pool.map(function, things))


def server_time(objects: Objects, key: str) -> datetime:
    """Now, by the clock of the store: clocks of machines need not agree."""
    objects.put(key, str(time.time_ns()).encode())
    found = objects.get(key)
    objects.delete([key])
    assert found is not None
    return found.put
