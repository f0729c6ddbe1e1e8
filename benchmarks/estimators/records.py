"""What the yardstick has found so far: JSON lines, one for each finished component of a cell (γ, nβ).

The first line names what all others depend on; a file of another measurement is refused. A line that was cut off when
the work was stopped is removed, and its component measured again. What is not finite is null.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scale.errors import UserError

Record = dict[str, Any]
Key = tuple[float, float, str]


def finite(value: Any) -> Any:
    """The same with null for every number that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def key_of(record: Record) -> Key:
    return record["gamma"], record["nbeta"], record["component"]


def read(path: Path) -> tuple[Record, list[Record]]:
    """The options and the records of a file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it with python -m benchmarks.estimators --out {path}")
    lines = [json.loads(line) for line in whole_lines(path)]
    if not lines or "options" not in lines[0]:
        raise UserError(f"{path}: not a file of python -m benchmarks.estimators; choose another")
    return lines[0]["options"], lines[1:]


def whole_lines(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    return (line for line in text.splitlines(keepends=True) if line.endswith("\n"))


class Records:
    """The records of one measurement, kept in a file if there is one."""

    def __init__(self, path: Path | None, options: Record) -> None:
        self.path, self.found = path, list[Record]()
        if path is None:
            return
        if path.exists() and any(whole_lines(path)):
            before, self.found = read(path)
            changed = [name for name in {**before, **options} if before.get(name) != options.get(name)]
            if changed:
                names = ", ".join(f"{name} was {before.get(name)}" for name in changed)
                raise UserError(f"--out {path} holds another measurement ({names}): choose another file")
            path.write_text("".join(whole_lines(path)), encoding="utf-8")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"options": options}) + "\n", encoding="utf-8")

    def __contains__(self, key: Key) -> bool:
        return any(key_of(record) == key for record in self.found)

    def add(self, record: Record) -> None:
        """To the disk before anything else is measured."""
        plain = finite(record)
        self.found.append(plain)
        if self.path is None:
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(plain, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def cell(self, gamma: float, nbeta: float) -> list[Record]:
        return [record for record in self.found if key_of(record)[:2] == (gamma, nbeta)]
