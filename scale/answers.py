"""What processes that train together say in the end, in a form that any other process can read and none can abuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scale.store import written

ANSWER_FILE = "answer.safetensors"


@dataclass(frozen=True)
class Answer:
    """Arrays, and facts that JSON can hold."""

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """One file, there whole or not at all; the facts are in its header."""
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        with written(folder / ANSWER_FILE) as temporary:
            save_file(arrays, temporary, metadata={"facts": json.dumps(self.facts)})

    @classmethod
    def load(cls, folder: Path) -> Answer:
        """Read what `save` wrote."""
        from safetensors import safe_open

        with safe_open(folder / ANSWER_FILE, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return cls(arrays, json.loads(file.metadata()["facts"]))
