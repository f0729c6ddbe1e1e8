"""The held-out rows of a run: what was measured of them, what is predicted, and what the prediction reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars
import torch

from aux.basis import Basis
from aux.config import AuxConfig
from aux.stage import read_measured
from eval.inputs import Part, parts_of
from eval.leakage import Sides
from scale.config import ModelConfig
from scale.model.batches import memory_explained, remembered_budget
from scale.model.forward import residual_stream
from scale.model.language_model import load_config, load_language_model
from scale.store import Shards, read_array, read_manifest, read_table
from scale.taps.stage import read_taps


@dataclass(frozen=True)
class Heldout:
    """N rows, in the order of the taps.

    Args:
        taps: What predictions read, memory-mapped, in shards.
        parts: What lies where in a row of the taps.
        measured: Coordinates (N, 2, P) by halves of the draws.
        predicted: Coordinates (N, P).
        documents, tokens, contexts, labels: Of every row; -1 for no cluster.
    """

    taps: list[np.ndarray]
    parts: list[Part]
    measured: np.ndarray
    predicted: np.ndarray
    documents: np.ndarray
    tokens: np.ndarray
    contexts: np.ndarray
    labels: np.ndarray

    def sides(self, rows: np.ndarray) -> Sides:
        return Sides(self.measured[rows], self.predicted[rows], self.documents[rows])

    def activations(self) -> Iterator[np.ndarray]:
        """The residual stream at the tapped layers, side by side, some rows at a time."""
        columns = [part.columns for part in self.parts if part.input == "activations"]
        for shard in self.taps:
            yield np.asarray(shard[:, columns[0].start : columns[-1].stop], dtype=np.float32)


def predicted_rows(upsampled: Path) -> tuple[np.ndarray, polars.DataFrame]:
    """Predicted coordinates of the held-out rows, which come first, and their table."""
    rows = polars.scan_parquet(upsampled / "rows.parquet").filter(polars.col("split") == "heldout").collect()
    taken: list[np.ndarray] = []
    for block in Shards(upsampled).blocks("coordinates"):
        taken.append(np.array(block[: len(rows) - sum(map(len, taken))]))
        if sum(map(len, taken)) == len(rows):
            break
    return np.concatenate(taken), rows


def read_heldout(inputs: Mapping[str, Path], config: AuxConfig, model: ModelConfig) -> Heldout:
    measured = read_measured(inputs["chi"], inputs["taps"], Basis.load(inputs["aux"]), config, "heldout")
    predicted, own = predicted_rows(inputs["upsampled"])
    truth_rows = read_table(inputs["chi"] / "rows.parquet").filter(polars.col("split") == "heldout")
    keys = ["context", "position", "token"]
    assert own.select(keys).equals(truth_rows.select(keys)), "held-out rows differ between chi/ and upsampled/"
    width = read_manifest(inputs["taps"]).facts["width"]
    return Heldout(
        measured.inputs,
        parts_of(read_taps(inputs["taps"]), width, load_config(model).num_hidden_layers),
        measured.coordinates,
        predicted,
        measured.documents,
        own["token"].to_numpy(),
        own["context"].to_numpy(),
        np.array(read_array(inputs["clusters"] / "labels.npy")[: len(predicted)]),
    )


def sample_documents(documents: np.ndarray, tokens: int, seed: int) -> np.ndarray:
    """Rows of whole documents, drawn at random until ``tokens`` is reached; in their original order."""
    distinct, counts = np.unique(documents, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(distinct))
    enough = int(np.searchsorted(np.cumsum(counts[order]), tokens)) + 1
    return np.flatnonzero(np.isin(documents, distinct[order[:enough]]))


def other_layers(model: ModelConfig, tapped: Sequence[int]) -> list[int]:
    """Every block below which the residual stream is not tapped, and the top.

    Below block 0 it is the token's embedding, where all occurrences of a token are equal and none is nearer than
    another: that is left out.
    """
    return [layer for layer in range(1, load_config(model).num_hidden_layers + 1) if layer not in tapped]


@memory_explained()
@torch.no_grad()
def stream_at(model: ModelConfig, tokens: np.ndarray, layer: int) -> np.ndarray:
    """The residual stream at every row's own token, float32; as many contexts at a time as the device allows."""
    language_model = load_language_model(model)
    ids = torch.from_numpy(tokens).long().to(language_model.device)
    budget = remembered_budget(language_model.device, model.batch_tokens)
    found: list[np.ndarray] = []

    def some(begin: int, end: int) -> None:
        stream = residual_stream(language_model, ids[begin:end], [layer])[0]
        found.append(stream[:, 1:].flatten(0, 1).float().cpu().numpy())

    budget.ranges(len(ids), lambda: budget.variants(ids.shape[1]), some, "contexts")
    return np.concatenate(found)
