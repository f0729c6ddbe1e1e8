"""Data files of the report: scripts that hand a value to the page, each at most a given size.

A page opened from the file system may not fetch files, but it may load scripts. Every data file is therefore one call,
`balmer.register(name, value)`. The text is pure ASCII and holds no character that could end a script element, so
nothing in a corpus can leave its string.
"""

import json
from pathlib import Path
from typing import Any

from scale.errors import UserError

_MARKUP = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode


def literal(value: Any) -> str:
    """The value as an ASCII JavaScript literal, safe inside a script element too. Refuses NaN and infinities."""
    text = _encode(value)
    for character, spelled in _MARKUP.items():
        text = text.replace(character, spelled)
    return text


def write_script(folder: Path, name: str, value: Any, limit: int) -> None:
    """Write `data/<name>.js`, which may not exceed `limit` bytes."""
    if (size := _write(folder, name, literal(value))) > limit:
        raise UserError(f"report.chunk_bytes is too small for {name}, which takes {size} bytes")


def _write(folder: Path, name: str, body: str) -> int:
    path = folder / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(f"balmer.register({literal(name)},{body});\n".encode("ascii"))


class ChunkWriter:
    """Packs records, in the order they come, into numbered data files of at most `limit` bytes.

    `first` lists the key of the first record of every file: a reader finds a record's file by bisection.
    """

    def __init__(self, folder: Path, series: str, limit: int) -> None:
        self.first: list[int] = []
        self._folder, self._series = folder, series
        self._room = limit - len(f'balmer.register("{series}/00000000",[]);\n')
        self._pending: list[str] = []
        self._length = 0

    def add(self, key: int, record: Any) -> None:
        """Append one record under an ascending key."""
        text = literal(record)
        if len(text) > self._room:
            raise UserError(f"report.chunk_bytes is too small for {self._series} {key}, which takes {len(text)} bytes")
        if self._pending and self._length + len(text) + 1 > self._room:
            self._flush()
        if not self._pending:
            self.first.append(key)
        self._pending.append(text)
        self._length += len(text) + 1

    def close(self) -> list[int]:
        """Write what is left and return `first`."""
        if self._pending:
            self._flush()
        return self.first

    def _flush(self) -> None:
        _write(self._folder, f"{self._series}/{len(self.first) - 1:05d}", f"[{','.join(self._pending)}]")
        self._pending, self._length = [], 0
