"""Stage `upsampled`: PC coordinates predicted for the large corpus, one work item per few hundred contexts.

Reads corpus/, taps/ (which layers) and aux/. Writes shards of ``coordinates`` (rows, P) and ``rows.parquet``.
Activations go from the forward pass into the auxiliary model and never touch the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aux.config import UpsampleConfig
from aux.model import AuxModel
from scale.batches import memory_explained, remembered_budget
from scale.config import ModelConfig
from scale.corpus import read_rows
from scale.engine import Item, Workspace, per_worker
from scale.language_model import load_language_model
from scale.store import shard_name, write_table
from scale.taps import Taps, load_directions, read_taps, tapped

PREDICTED = ("heldout", "upsample")


@per_worker
def load_aux(folder: Path) -> AuxModel:
    return AuxModel.load(folder)


@memory_explained()
@torch.no_grad()
def coordinates(
    corpus: Path, kept: Path, aux: Path, model: ModelConfig, taps: Taps, batch: int, start: int, stop: int
) -> Mapping[str, np.ndarray]:
    """Work item: predicted coordinates of every row of some contexts."""
    language_model, predictor = load_language_model(model), load_aux(aux)
    budget = remembered_budget(language_model.device, model.batch_tokens)
    tokens = read_rows(corpus, PREDICTED).tokens[start:stop]
    directions = load_directions(kept, model, taps.responses)
    blocks = [
        predictor(torch.from_numpy(tapped(language_model, tokens[i : i + batch], taps, directions, budget))).numpy()
        for i in range(0, len(tokens), batch)
    ]
    return {"coordinates": np.concatenate(blocks).astype(np.float32)}


def make(work: Workspace, model: ModelConfig, config: UpsampleConfig) -> dict[str, Any]:
    corpus, aux = work.inputs["corpus"], work.inputs["aux"]
    for cached in (load_aux, load_directions):
        cached.forget()  # a path may have been made again since this process last read it
    taps = read_taps(work.inputs["taps"])
    rows = read_rows(corpus, PREDICTED)
    shared = {
        "corpus": corpus,
        "kept": work.inputs["taps"],
        "aux": aux,
        "model": model,
        "taps": taps,
        "batch": config.batch_contexts,
    }
    items = [
        Item(shard_name(index), coordinates, {**shared, "start": start, "stop": stop})
        for index, (start, stop) in enumerate(rows.ranges(config.contexts_per_shard))
    ]
    work.engine.run(items, work.folder, "contexts", work.progress)
    write_table(work.folder / "rows.parquet", rows.table())
    return {"rows": len(rows.contexts) * rows.per_context}
