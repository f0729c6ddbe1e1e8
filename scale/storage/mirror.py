"""A run on a store, and its copy on this machine, which the stages read and write.

On the store, relative to the run's URL:

    STAGE.json                   names the files of a published stage: one put of it publishes them all
    STAGE/files/NAME.SHA256      the files; another content is another key, so that none is ever written over
    STAGE.part/ID/PLACE.json     names the files of what is finished of an unpublished stage, a shard or a file

The last two kinds are named after their files are there. A reader sees the whole of a stage, or of a shard, or none of
it, whoever else writes, and a writer that was killed leaves files that nothing names.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scale.errors import UserError
from scale.storage.objects import Objects, open_objects, side_by_side
from scale.store import FORMAT, MANIFEST, Manifest, file_digest, publish, read_manifest, write_manifest

PART = ".part"
#: Times that a fetch is begun anew because the stage was replaced, or its bytes changed, on the way.
ATTEMPTS = 5

#: Of every file its size and checksum, as in a manifest.
Files = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Pointer:
    """A published stage, how many were published in its place before, and the tag of the object that says so."""

    manifest: Manifest
    generation: int
    tag: str


class ChangedError(Exception):
    """Files are not, or no more, what was said of them."""


def file_key(stage: str, name: str, about: Mapping[str, Any]) -> str:
    return f"{stage}/files/{name}.{about['sha256'][:32]}"


def same(one: Manifest, other: Manifest) -> bool:
    """As JSON: a fact that is no number is equal to itself there."""
    return encoded(asdict(one)) == encoded(asdict(other))


def encoded(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Mirror:
    """A run on a store.

    Args:
        url: Where it lies.
        root: Where its copy lies, on every machine that works on it.
    """

    url: str
    root: Path

    @property
    def objects(self) -> Objects:
        return open_objects(self.url)

    @property
    def incoming(self) -> Path:
        """Holds what is being fetched; what a process that was killed left there is of no use."""
        return self.root / "incoming"

    def lock_path(self, stage: str) -> Path:
        """Of the processes of this machine that would put the stage in its place."""
        return self.root / f"{stage}.lock"

    def pointer(self, stage: str) -> Pointer | None:
        found = self.objects.get(f"{stage}.json")
        if found is None:
            return None
        said = json.loads(found.content)
        if said["format"] != FORMAT:
            raise UserError(
                f"folder: {self.url}/{stage}.json has format {said['format']}, this version reads {FORMAT}; name "
                "another folder"
            )
        return Pointer(Manifest(**said["manifest"]), said["generation"], found.tag)

    def fetch_stage(self, stage: str) -> Path:
        """The stage's folder on this machine, as it is published now; processes of one machine fetch it once."""
        for _ in range(ATTEMPTS):
            pointer = self.pointer(stage)
            if pointer is None:
                raise UserError(f"folder: {self.url} has no finished stage {stage}; give balmer run first")
            try:
                return self.brought(stage, pointer.manifest)
            except ChangedError:
                continue
        raise UserError(f"folder: {self.url}/{stage} is not what its manifest says; balmer run --from {stage}")

    def brought(self, stage: str, manifest: Manifest) -> Path:
        final, unfinished = self.root / stage, self.root / f"{stage}.fetch"
        with alone(self.lock_path(stage)):
            if (final / MANIFEST).is_file() and same(read_manifest(final), manifest):
                return final
            self.download(stage, manifest.files, unfinished)
            for path in [p for p in unfinished.rglob("*") if p.is_file()]:
                if path.relative_to(unfinished).as_posix() not in manifest.files:
                    path.unlink()  # of another fetch, which was not finished
            write_manifest(unfinished, manifest)
            publish(unfinished, final)
        return final

    def download(self, stage: str, files: Files, folder: Path) -> None:
        """Fetch files that are not there yet."""

        def fetch(name: str) -> None:
            if ".." in Path(name).parts or Path(name).is_absolute():  # whoever can write there must not write here
                raise UserError(f"folder: {self.url}/{stage} names the file {name}, which is not its own")
            path = folder / name
            if path.is_file() and described(path) == dict(files[name]):
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.objects.fetch(file_key(stage, name, files[name]), path) != files[name]["sha256"]:
                raise ChangedError(name)

        folder.mkdir(parents=True, exist_ok=True)
        side_by_side(fetch, sorted(files))

    def publish_stage(self, stage: str, folder: Path, manifest: Manifest, replaced: Pointer | None) -> Pointer:
        """Send what the store does not have, name all of it, and remove what it replaces."""
        there = self.objects.list(f"{stage}/files/")
        missing = {
            name for name, about in manifest.files.items() if there.get(file_key(stage, name, about)) != about["bytes"]
        }

        def send(name: str) -> None:
            self.objects.put(file_key(stage, name, manifest.files[name]), folder / name)

        side_by_side(send, sorted(missing))
        generation = replaced.generation + 1 if replaced else 1
        content = encoded({"format": FORMAT, "generation": generation, "manifest": asdict(manifest)})
        tag = self.objects.swap(f"{stage}.json", content, replaced.tag if replaced else None)
        if tag is None:
            raise UserError(f"folder: another balmer has published {self.url}/{stage}; give the same command again")
        pointer = Pointer(manifest, generation, tag)
        self.sweep(stage, pointer)
        return pointer

    def sweep(self, stage: str, pointer: Pointer) -> None:
        """Remove all of a stage that it does not name: its parts go last, as a sign that there is more to remove."""
        named = {file_key(stage, name, about) for name, about in pointer.manifest.files.items()}
        self.objects.delete(set(self.objects.list(f"{stage}/files/")) - named)
        self.objects.delete(self.objects.list(f"{stage}{PART}/"))

    def unswept(self, stage: str, pointer: Pointer) -> bool:
        """Whether parts are left that became what is published: its writer ended before it had swept."""
        keys = self.objects.list(f"{stage}{PART}/")
        return any(int(key.split("/")[1].partition("-")[0]) < pointer.generation for key in keys)


def described(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process of this machine at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
