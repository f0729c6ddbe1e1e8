"""A run small enough to be carried through many times, and how two of them are compared."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

SETTINGS: dict[str, Any] = {
    "corpus": {
        "kind": "text", "context_length": 24, "contexts_per_document": 2,
        "truth_contexts": 16, "heldout_contexts": 10, "upsample_contexts": 20,
    },
    "sgld": {
        "step_size": 1.0e-4, "chains": 2, "burn_in": 2, "draws": 4, "steps_between_draws": 1, "batch_contexts": 2,
        "pool_contexts": 8, "reference_contexts": 4,
    },
    "probe": {"draws_per_document": 4, "documents_per_shard": 3},
    "taps": {"count": 2, "direction_draws": 2, "contexts_per_shard": 6},
    "aux": {"epochs": 3, "expansion": 2, "batch_size": 64, "validation_share": 0.3, "bootstrap": 20},
    "upsample": {"contexts_per_shard": 8},
    "cluster": {"k": 8, "null_seeds": 20, "min_size": 10, "expected_false": 20.0, "max_conductance": 0.9},
    "leakage": {
        "k": 10, "groups": 4, "bootstrap": 20, "permutations": 39, "min_members": 3, "splits": 2, "repeats": 1,
    },
}  # fmt: skip


def write_run_file(path: Path, folder: Path, model: Path, text: Path) -> Path:
    settings = {**SETTINGS, "folder": str(folder), "model": {"path": str(model), "device": "cpu"}}
    settings["corpus"] = {**SETTINGS["corpus"], "path": str(text)}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def content(folder: Path) -> dict[str, str]:
    """Digest of every file of every published stage."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.parent != folder)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
