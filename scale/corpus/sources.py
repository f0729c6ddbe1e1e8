"""Where the text comes from: iterators of documents over files, tables, hub data sets and Python's own library.

Nothing is held beyond one document (or one block of a table), so a source may be larger than memory. Reading is
exact: the text of a document is the decoded file, line ends included, less a byte order mark at its start.
"""

import gzip
import hashlib
import importlib.util
import json
import os
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from scale.errors import UserError
from scale.seeds import seed_for

KINDS = ("python-stdlib", "text", "jsonl", "parquet", "dataset")
#: What a folder is searched for when no pattern is given.
PATTERNS = {"text": "**/*.txt", "jsonl": "**/*.jsonl*", "parquet": "**/*.parquet"}
#: Rows of a Parquet file decoded at a time.
ROWS = 4096

# Not library prose: third-party packages, tests, code-page tables, and the grammar tool's own fixtures.
_TEST_FOLDERS = frozenset({"test", "tests", "idle_test", "lib2to3"})
_OTHER_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__", "encodings"})
# Written when the interpreter was built: it holds the builder's paths and differs between machines.
_SKIPPED_FILES = "_sysconfigdata*"
# Bytes that are not utf-8 decode to lone low surrogates under "surrogateescape"; valid utf-8 never does.
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_SPACES = bytes(code for code in range(128) if chr(code).isspace())
_LETTERS = bytes(code for code in range(128) if chr(code).isalpha())


@dataclass(frozen=True)
class Text:
    """One document."""

    name: str
    text: str


def iterate(
    kind: str,
    path: str | Path | None = None,
    *,
    pattern: str | None = None,
    column: str = "text",
    config: str | None = None,
    split: str = "train",
    shuffle: int | None = None,
) -> Iterator[Text]:
    """The documents of a source, in a fixed order.

    Args:
        kind: One of `KINDS`.
        path: A file or folder; the name of the data set for "dataset"; ignored for "python-stdlib".
        pattern: What to look for in a folder (a glob, `**` for all depths); by default the usual suffix of the kind.
        column: Field of a JSON line, or column of a table, that holds the text.
        config: Configuration of a "dataset".
        split: Split of a "dataset".
        shuffle: A seed puts the files (not the lines within them) in an order of its own instead of by name.
    """
    _check_kind(kind)
    if kind == "dataset":
        return _dataset(_given(path, kind), column, config, split)
    files = _files(kind, path, pattern)
    if shuffle is not None:
        files.sort(key=lambda pair: seed_for(shuffle, pair[0]))
    readers: dict[str, Callable[[str, Path], Iterator[Text]]] = {
        "python-stdlib": _whole_file,
        "text": _whole_file,
        "jsonl": lambda name, file: _json_lines(name, file, column),
        "parquet": lambda name, file: _parquet_rows(name, file, column),
    }
    return (text for name, file in files for text in readers[kind](name, file))


def source_identity(
    kind: str,
    path: str | Path | None = None,
    *,
    pattern: str | None = None,
    column: str = "text",
    config: str | None = None,
    split: str = "train",
) -> dict[str, Any]:
    """Which bytes `iterate` would read, without reading them: names, sizes and times of change of the files."""
    _check_kind(kind)
    if kind == "dataset":
        return {"kind": kind, "name": _given(path, kind), "config": config, "split": split, "column": column}
    digest = hashlib.sha256()
    files = _files(kind, path, pattern)
    for name, file in files:
        status = file.stat()
        digest.update(json.dumps([name, status.st_size, status.st_mtime_ns]).encode())
    identity: dict[str, Any] = {"kind": kind, "files": len(files), "sha256": digest.hexdigest()}
    return identity | ({"column": column} if kind in ("jsonl", "parquet") else {})


def python_standard_library() -> list[Path]:
    """The running interpreter's library modules that are prose and code, sorted by their path in the library.

    Left out: third-party packages, tests, generated tables (most visible characters are no letters), empty files, and
    files that are not utf-8.
    """
    return _library_files(tests=False)


def python_library_tests() -> list[Path]:
    """The files left out of `python_standard_library` only because they are tests, sorted in the same way."""
    return _library_files(tests=True)


def _library_files(*, tests: bool) -> list[Path]:
    root = _library_root()
    kept = [file for file in _modules(root) if tests != _TEST_FOLDERS.isdisjoint(file.relative_to(root).parts[:-1])]
    kept = [file for file in kept if file.is_file() and not file.match(_SKIPPED_FILES) and _is_prose(file)]
    return sorted(kept, key=lambda file: file.relative_to(root).as_posix())


def _modules(root: Path) -> Iterator[Path]:
    """Without a look into the folders that are none of the library: of packages there may be thousands."""
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name not in _OTHER_FOLDERS]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def _library_root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _is_prose(file: Path) -> bool:
    content = file.read_bytes()
    if content.isascii():  # nearly all are, and bytes are counted a hundred times as fast
        visible = len(content.translate(None, _SPACES))
        return 2 * (visible - len(content.translate(None, _SPACES + _LETTERS))) > visible
    text = content.decode("utf-8", errors="surrogateescape")
    visible = len(text) - sum(map(str.isspace, text))
    letters = sum(map(str.isalpha, text))
    return _ESCAPED_BYTE.search(text) is None and 2 * letters > visible


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise UserError(f"corpus.kind must be one of {', '.join(KINDS)}, got {kind!r}")


def _given(path: str | Path | None, kind: str) -> str:
    if path is None or str(path) == "":
        raise UserError(f"corpus.path is needed when corpus.kind is {kind}")
    return str(path)


def _files(kind: str, path: str | Path | None, pattern: str | None) -> list[tuple[str, Path]]:
    """(name, file) pairs sorted by name: the path below the folder, or the bare name of a single file."""
    if kind == "python-stdlib":
        root = _library_root()
        return [(file.relative_to(root).as_posix(), file) for file in python_standard_library()]
    root = _readable(Path(_given(path, kind)).expanduser())
    if root.is_file():
        return [(root.name, root)]
    pattern = pattern or PATTERNS[kind]
    found = sorted((file.relative_to(root).as_posix(), file) for file in root.glob(pattern) if file.is_file())
    if not found:
        raise UserError(f"corpus.path {root} holds no file that matches the pattern {pattern!r}")
    return found


def _readable(path: Path) -> Path:
    """The path, once it is known that it can be opened; otherwise one line that says why not."""
    try:
        (os.scandir(path) if path.is_dir() else path.open("rb")).close()
    except FileNotFoundError as error:
        raise UserError(f"corpus.path {path} does not exist") from error
    except PermissionError as error:
        raise UserError(f"corpus.path: no permission to read {path}") from error
    return path


def _open(file: Path) -> BinaryIO | gzip.GzipFile:
    """The file's bytes, unpacked when its name ends in .gz."""
    return gzip.open(_readable(file)) if file.suffix == ".gz" else _readable(file).open("rb")


def _decode(data: bytes, where: str) -> str:
    text = data.decode("utf-8", errors="surrogateescape")
    bad = _ESCAPED_BYTE.search(text)
    if bad:
        raise UserError(f"corpus.path: {where} is not utf-8 (near character {bad.start()}); convert it first")
    return text.removeprefix("\ufeff")


def _whole_file(name: str, file: Path) -> Iterator[Text]:
    with _open(file) as stream:
        yield Text(name, _decode(stream.read(), str(file)))


def _json_lines(name: str, file: Path, field: str) -> Iterator[Text]:
    with _open(file) as stream:
        for number, line in enumerate(_lines(stream, file), start=1):
            text = _decode(line, f"{file} line {number}")
            if text.strip():
                yield Text(f"{name}:{number}", _field(text, field, file, number))


def _lines(stream: BinaryIO | gzip.GzipFile | gzip.GzipFile, file: Path) -> Iterator[bytes]:
    try:
        yield from stream
    except (gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"corpus.path: {file} is not a complete gzip file ({error})") from error


def _field(line: str, field: str, file: Path, number: int) -> str:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"corpus.path: malformed JSON in {file} line {number}: {error.msg}") from error
    if not isinstance(record, dict) or field not in record:
        raise UserError(f"corpus.column: no field {field!r} in {file} line {number}")
    return _string(record[field], field, f"{file} line {number}")


def _string(value: object, column: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"corpus.column: {column!r} is not text in {where} (it is {type(value).__name__})")
    return value


def _parquet_rows(name: str, file: Path, column: str) -> Iterator[Text]:
    import polars as pl

    table = pl.scan_parquet(_readable(file))
    try:
        columns = table.collect_schema().names()
    except pl.exceptions.PolarsError as error:
        raise UserError(f"corpus.path: {file} is not a Parquet file ({str(error).splitlines()[0]})") from error
    if column not in columns:
        raise UserError(f"corpus.column: no column {column!r} in {file}; it has {', '.join(columns)}")
    rows = table.select(pl.len()).collect().item()
    for start in range(0, rows, ROWS):
        block = table.select(column).slice(start, ROWS).collect()[column]
        for number, value in enumerate(block, start=start + 1):
            yield Text(f"{name}:{number}", _string(value, column, f"{file} row {number}"))


def _dataset(name: str, column: str, config: str | None, split: str) -> Iterator[Text]:
    if importlib.util.find_spec("datasets") is None:
        raise UserError("corpus.kind dataset needs the datasets library: pip install datasets")
    import datasets

    rows = datasets.load_dataset(name, config, split=split, streaming=True)
    return (Text(f"{name}:{index}", _column(row, column, name, index)) for index, row in enumerate(rows))


def _column(row: dict[str, Any], column: str, name: str, index: int) -> str:
    if column not in row:
        raise UserError(f"corpus.column: no column {column!r} in data set {name}; it has {', '.join(row)}")
    return _string(row[column], column, f"data set {name} row {index}")
