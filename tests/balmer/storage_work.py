"""The command line and single items in processes of their own that end, by SIGKILL, at a chosen write to the store."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import warm
from scale.engine import Item, do
from scale.storage.objects import Objects


def ending_at(pattern: str, after: bool) -> None:
    """From here on the process ends before, or after, the first write to a key that matches."""

    def around(write: Callable[..., Any]) -> Callable[..., Any]:
        def writing(self: Objects, key: str, *rest: Any) -> Any:
            chosen = re.search(pattern, key)
            if chosen and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = write(self, key, *rest)
            if chosen:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return writing

    for name in ("put", "swap"):
        setattr(Objects, name, around(getattr(Objects, name)))


def entered(environment: dict[str, str]) -> None:
    """The server that makes processes has an environment of its own."""
    os.environ.update(environment)


def command_line(environment: dict[str, str], arguments: list[str], pattern: str = "", after: bool = False) -> int:
    entered(environment)
    if pattern:
        ending_at(pattern, after)
    return warm.command_line(arguments)


def one_item(environment: dict[str, str], item: Item, folder: Path) -> int:
    entered(environment)
    do(item, folder)
    return 0


def numbers(value: int) -> dict[str, np.ndarray]:
    return {"values": np.full(200_000, value)}
