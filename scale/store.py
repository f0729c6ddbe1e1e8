"""How a stage's folder looks on disk: shards of named arrays, tables, and the manifest that vouches for them.

A *shard* is a folder ``shards/00012/`` of ``.npy`` files. It is written beside its place and renamed into it, so a
shard that exists is whole, and a run that was killed goes on with the first shard that does not exist. Every attempt
at a shard has a folder of its own to write in, so that two of them at once do not disturb one another. A stage
collects its shards in ``NAME.part`` and is published by one rename, after which nothing in it changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError

from scale.errors import UserError

SHARDS = "shards"
#: Ends the name of what is still being written.
UNFINISHED = ".tmp"
MANIFEST = "manifest.json"
FORMAT = 1
#: Rows of a table that are written together, when it is written block by block.
ROW_GROUP = 131072


def replace_atomically(temporary: Path, final: Path) -> None:
    """Move a finished file or folder into place; whoever looks sees the whole of it or nothing."""
    os.replace(temporary, final)


@contextmanager
def written(path: Path, make_folder: bool = True) -> Iterator[Path]:
    """A temporary path to write to, moved into place when the block ends; what the system refuses names the file.

    An unfinished shard that another attempt has taken over must not be made again: there ``make_folder`` is false.
    """
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + UNFINISHED)
    try:
        yield temporary
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    except SafetensorError as error:  # says in words what the system said by number
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    replace_atomically(temporary, path)


def write_bytes(path: Path, content: bytes) -> None:
    with written(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Sorted keys and a final newline, so that equal values are equal bytes."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_array(path: Path, array: np.ndarray, make_folder: bool = True) -> None:
    """As `numpy.save`, but a full disk is reported as one (`numpy.save` loses the system's reason)."""
    values = np.ascontiguousarray(array)
    with written(path, make_folder) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
        file.write(values.reshape(-1).view(np.uint8).data)


class GrowingArray:
    """An array on its way to a file, some rows at a time; how many there will be need not be known."""

    def __init__(self, file: BinaryIO, row: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.file, self.row, self.dtype, self.length = file, row, np.dtype(dtype), 0
        self.write_header()

    def append(self, rows: np.ndarray) -> None:
        assert rows.shape[1:] == self.row, (rows.shape, self.row)
        self.file.write(np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8).data)
        self.length += len(rows)

    def write_header(self) -> None:
        """At the start, as long for any number of rows: numpy leaves room for the first axis to grow."""
        described = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length, *self.row)}
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(self.file, described)


@contextmanager
def growing_array(path: Path, row: tuple[int, ...], dtype: type[np.generic]) -> Iterator[GrowingArray]:
    """Within, rows of one shape are appended; afterwards the file is what `write_array` makes of all of them."""
    with written(path) as temporary, open(temporary, "wb") as file:
        array = GrowingArray(file, row, dtype)
        yield array
        array.write_header()


def read_array(path: Path) -> np.ndarray:
    """Memory-mapped: rows are read from disk when they are touched."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def write_table(path: Path, table: Any) -> None:
    """Write a polars table; the same table gives the same bytes."""
    with written(path) as temporary:
        table.write_parquet(temporary, compression="zstd")


def write_table_blocks(path: Path, schema: Mapping[str, Any], blocks: Callable[[], Iterator[Any]]) -> None:
    """Write a table that comes block by block and is never held whole; the same rows in the same order give the same
    bytes, wherever one block ends and the next begins."""
    from polars import Schema
    from polars.io.plugins import register_io_source

    def source(columns: Any, predicate: Any, rows: Any, size: Any) -> Iterator[Any]:
        assert columns is None
        assert predicate is None
        assert rows is None
        return blocks()

    table = register_io_source(source, schema=Schema(schema))
    with written(path) as temporary:
        table.sink_parquet(temporary, compression="zstd", row_group_size=ROW_GROUP, maintain_order=True)


def read_table(path: Path) -> Any:
    import polars

    return polars.read_parquet(path)


def shard_name(index: int) -> str:
    return f"{index:05d}"


def shard_path(folder: Path, name: str) -> Path:
    return folder / SHARDS / name


def attempt_place(final: Path) -> Path:
    """A name beside the shard's own that no other attempt has, in this or any other process."""
    final.parent.mkdir(parents=True, exist_ok=True)
    return final.with_name(f"{final.name}.{uuid.uuid4().hex}{UNFINISHED}")


def earlier_attempts(final: Path) -> list[Path]:
    """Folders that unfinished attempts at a shard left, the latest first."""
    of_this_shard = re.compile(re.escape(final.name) + r"\.[0-9a-f]{32}" + re.escape(UNFINISHED))
    found = []
    for path in final.parent.iterdir():
        if of_this_shard.fullmatch(path.name):
            with suppress(FileNotFoundError):  # finished or taken over by now
                found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def unfinished_shard(folder: Path, name: str) -> Path:
    """The folder in which a shard takes shape, with whatever an earlier attempt left there.

    It is taken over by a rename. Should the earlier attempt still be at work, it no longer finds its folder and fails;
    what it writes until then into files that it holds open is what the new one writes there too.
    """
    place = attempt_place(shard_path(folder, name))
    for earlier in earlier_attempts(shard_path(folder, name)):
        with suppress(FileNotFoundError):  # another attempt was quicker
            replace_atomically(earlier, place)
            return place
    place.mkdir()
    return place


def write_shard(folder: Path, name: str, arrays: Mapping[str, np.ndarray], begun: Path | None = None) -> None:
    """Write all arrays of one shard and rename the shard into place; ``begun`` is its folder if there is one already.

    Where another attempt has finished the shard meanwhile, that one stays: both made the same.
    """
    final = shard_path(folder, name)
    place = begun or attempt_place(final)
    if begun is None:
        place.mkdir()
    for key, array in arrays.items():
        write_array(place / f"{key}.npy", array, make_folder=False)
    try:
        replace_atomically(place, final)
    except OSError:
        if not final.is_dir():
            raise
        shutil.rmtree(place)


def remove_unfinished(folder: Path) -> None:
    """What attempts that came to nothing left beside the shards, now that all shards are there."""
    for path in (folder / SHARDS).glob(f"*{UNFINISHED}"):
        shutil.rmtree(path, ignore_errors=True)


class Shards:
    """The shards of a stage, in order of their names, read without loading them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        place = folder / SHARDS
        found = sorted(p.name for p in place.iterdir() if p.suffix != UNFINISHED) if place.is_dir() else []
        if not found:
            raise UserError(f"{folder}: holds no shards; run the stage again")
        self.names: Sequence[str] = found

    def read(self, name: str, array: str) -> np.ndarray:
        return read_array(shard_path(self.folder, name) / f"{array}.npy")

    def blocks(self, array: str) -> Iterator[np.ndarray]:
        for name in self.names:
            yield self.read(name, array)

    def stack(self, array: str) -> np.ndarray:
        """All shards of one array as one array in memory, first axis joined."""
        return np.concatenate(list(self.blocks(array)))


@dataclass(frozen=True)
class Manifest:
    """What a published stage is: what it was made from, a checksum of every file, and a few facts about the result.

    No times and no host names: the same inputs give the same manifest.
    """

    stage: str
    made_from: dict[str, Any]
    files: dict[str, dict[str, Any]]
    facts: dict[str, Any]

    @property
    def digest(self) -> str:
        """Names the content of the stage, whatever it was made from: equal content, equal digest."""
        canonical = json.dumps([self.files, self.facts], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": file_digest(p)} for p in paths}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json(
        folder / MANIFEST,
        {
            "format": FORMAT,
            "stage": manifest.stage,
            "made_from": manifest.made_from,
            "files": manifest.files,
            "facts": manifest.facts,
        },
    )


def read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        raw = read_json(path)
        if raw["format"] != FORMAT:
            raise UserError(
                f"{path}: format {raw['format']}, this version reads {FORMAT}; delete {folder} and run again"
            )
        return Manifest(raw["stage"], raw["made_from"], raw["files"], raw["facts"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a manifest ({error}); delete {folder} and run again") from error


def link_folder(source: Path, target: Path) -> None:
    """A published folder under another name, in place of what is there: its files never change."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=link)


def link(source: str, target: str) -> str:
    """The same file under another name; a copy where file systems cannot do that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def publish(part: Path, final: Path) -> None:
    """Swap a finished ``.part`` folder in; the stage it replaces is moved aside first and then removed."""
    old = final.with_name(final.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    if final.exists():
        replace_atomically(final, old)
    replace_atomically(part, final)
    if old.exists():
        shutil.rmtree(old)
