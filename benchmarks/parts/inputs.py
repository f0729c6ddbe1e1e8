"""What a finished run says of its measured tokens: the parts of χ, the tokens' classes, their activations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars

from aux.rows import ShardedRows
from benchmarks.parts.classes import CLASSES, OTHER, token_classes
from eval.heldout import sample_documents
from scale.chi.estimate import assemble
from scale.chi.stage import PARTS
from scale.errors import UserError
from scale.store import MANIFEST, Shards, read_array, read_manifest, read_table

NAMES = ("covariance", "shift", "two-chain")
STAGES = ("corpus", "chi", "taps")


@dataclass(frozen=True)
class Measured:
    """Some of a run's measured tokens.

    Args:
        parts: By name the terms of χ, (rows, 2, C) float64; the axis of length 2 is the two halves of the draws.
        tokens: Target token of every row.
        documents: Document of every row.
        classes: Index into `CLASSES`, or -1.
        rows: Which rows of the run they are, ascending.
        components: Names of the C columns.
        available: How many rows the run has.
    """

    parts: dict[str, np.ndarray]
    tokens: np.ndarray
    documents: np.ndarray
    classes: np.ndarray
    rows: np.ndarray
    components: tuple[str, ...]
    available: int


def terms(covariance: np.ndarray, shift: np.ndarray, full: np.ndarray, mean_phi: np.ndarray) -> dict[str, np.ndarray]:
    """-covariance, -E_C[φ] (shift - full), and two-chain χ, which is their sum."""
    alone, both = (assemble(covariance, shift, full, mean_phi, one) for one in ("covariance", "two-chain"))
    return dict(zip(NAMES, (alone, both - alone, both), strict=True))


def read_parts(chi: Path, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The terms of some rows (ascending), shard by shard."""
    mean_phi = read_table(chi / "components.parquet")["mean_phi"].to_numpy()
    shards, start = Shards(chi), 0
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for shard in shards.names:
        stored = [shards.read(shard, key) for key in PARTS]
        inside = rows[(rows >= start) & (rows < start + len(stored[0]))] - start
        covariance, shift, full = (np.asarray(array[inside], np.float64) for array in stored)
        for name, values in terms(covariance, shift, full, mean_phi).items():
            blocks[name].append(values)
        start += len(stored[0])
    return {name: np.concatenate(blocks[name]) for name in NAMES}


def read_classes(corpus: Path, rows: polars.DataFrame) -> np.ndarray:
    """Class of the target token of every row, from the text of its context."""
    texts = read_table(corpus / "vocabulary.parquet").sort("token")["text"].to_list()
    tokens, numbers = read_array(corpus / "tokens.npy"), {name: i for i, name in enumerate(CLASSES)} | {OTHER: -1}
    contexts, slots = np.unique(rows["context"].to_numpy(), return_inverse=True)
    classes = [[numbers[name] for name in token_classes([texts[t] for t in tokens[c].tolist()])] for c in contexts]
    return np.array(classes)[slots, rows["position"].to_numpy()]


def check_run(folder: Path) -> None:
    for stage in STAGES:
        if not (folder / stage / MANIFEST).is_file():
            raise UserError(f"{folder}: has no finished stage {stage!r}; name the folder of a finished run")


def read_run(folder: Path, most: int, seed: int) -> Measured:
    """All measured tokens, or those of whole documents drawn at random, about ``most``."""
    check_run(folder)
    table = read_table(folder / "chi" / "rows.parquet")
    documents = table["document"].to_numpy()
    chosen = sample_documents(documents, most, seed) if len(table) > most else np.arange(len(table))
    table = table[chosen]
    return Measured(
        parts=read_parts(folder / "chi", chosen),
        tokens=table["token"].to_numpy(),
        documents=documents[chosen],
        classes=read_classes(folder / "corpus", table),
        rows=chosen,
        components=tuple(read_table(folder / "chi" / "components.parquet")["component"].to_list()),
        available=len(documents),
    )


def read_activations(folder: Path, rows: np.ndarray) -> dict[int, np.ndarray]:
    """By tapped layer, the activations of some of the run's rows."""
    facts = read_manifest(folder / "taps").facts
    width = facts["width"]
    taken = ShardedRows(list(Shards(folder / "taps").blocks("taps"))).take(rows)
    return {layer: taken[:, i * width : (i + 1) * width] for i, layer in enumerate(facts["layers"])}


def read_facts(folder: Path) -> dict[str, Any]:
    """What the run was: model, text, and the settings that decide how well it is measured."""
    corpus, settings = read_manifest(folder / "corpus").facts, read_manifest(folder / "chi").made_from
    keys = ("sgld.estimator", "sgld.localization", "sgld.nbeta", "probe.draws_per_document", "probe.draws")
    return {"model": corpus["model"], "corpus": corpus["corpus"]} | {key: settings[key] for key in keys}
