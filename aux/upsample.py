"""Stage `upsampled`: PC coordinates predicted for the large corpus, one work item per few hundred contexts.

Reads corpus/, taps/ (what is read of a token) and aux/. Writes shards of ``coordinates`` (rows, P) and
``rows.parquet``. What is read of a token goes from the passes into the auxiliary model and never touches the disk; an
item reads its own contexts alone, so that memory does not grow with the corpus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aux.config import UpsampleConfig
from aux.model import AuxModel
from aux.predictor import Predictor
from scale.config import ModelConfig
from scale.corpus.stage import context_tokens, read_rows
from scale.engine import Item, Workspace, per_worker
from scale.errors import UserError
from scale.model.batches import Budget, memory_explained, remembered_budget
from scale.model.language_model import LanguageModel, choose_device, load_language_model
from scale.model.precision import native_bfloat16
from scale.store import shard_name
from scale.taps.responses import Direction
from scale.taps.stage import Taps, load_directions, parts_of, read_taps

PREDICTED = ("heldout", "upsample")


@per_worker
def load_predictor(folder: Path, device: torch.device) -> Predictor:
    return Predictor(AuxModel.load(folder), device)


def resolved(model: ModelConfig, config: UpsampleConfig, taps: Taps) -> tuple[ModelConfig, bool]:
    """The language model as it is to be loaded, and whether products are taken in bfloat16 all the same.

    Never where gradients or responses are read: a response is a small difference of two passes, and drowns in rounding.
    """
    if config.precision == "float32":
        return replace(model, dtype="float32"), False
    activations_alone = not taps.gradients and not taps.responses
    if config.precision == "bfloat16" and not activations_alone:
        raise UserError(
            "upsample.precision: bfloat16 is for activations alone; set it to auto, "
            "or taps.gradients to false and taps.responses to none"
        )
    native = native_bfloat16(choose_device(model)) and model.dtype != "float16"
    return model, activations_alone and (native or config.precision == "bfloat16")


@torch.no_grad()
def predict(
    language_model: LanguageModel,
    predictor: Predictor,
    tokens: np.ndarray,
    taps: Taps,
    directions: Sequence[Direction],
    budget: Budget,
    *,
    batch: int = 0,
    bfloat16: bool = False,
) -> np.ndarray:
    """Coordinates of every row of some contexts, (contexts · (T - 1), P)."""
    ids = torch.from_numpy(np.array(tokens)).long().to(language_model.device)
    found: list[torch.Tensor] = []

    def some(begin: int, end: int) -> None:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=bfloat16):
            parts = parts_of(language_model, ids[begin:end], taps, directions, budget)
        found.append(predictor(parts, bfloat16=bfloat16).cpu())

    def size() -> int:
        return min(batch or len(ids), budget.variants(ids.shape[1]))

    budget.ranges(len(ids), size, some, "contexts")
    return torch.cat(found).numpy()


@memory_explained()
def coordinates(
    corpus: Path,
    kept: Path,
    aux: Path,
    model: ModelConfig,
    taps: Taps,
    batch: int,
    bfloat16: bool,
    contexts: np.ndarray,
) -> Mapping[str, np.ndarray]:
    """Work item: predicted coordinates of every row of the contexts of these numbers."""
    language_model = load_language_model(model)
    budget = remembered_budget(language_model.device, model.batch_tokens)
    predictor, directions = load_predictor(aux, language_model.device), load_directions(kept, model, taps.responses)
    tokens = context_tokens(corpus, contexts)
    found = predict(language_model, predictor, tokens, taps, directions, budget, batch=batch, bfloat16=bfloat16)
    return {"coordinates": found}


def make(work: Workspace, model: ModelConfig, config: UpsampleConfig) -> dict[str, Any]:
    corpus, aux = work.inputs["corpus"], work.inputs["aux"]
    for cached in (load_predictor, load_directions):
        cached.forget()  # a path may have been made again since this process last read it
    taps = read_taps(work.inputs["taps"])
    rows = read_rows(corpus, PREDICTED)
    numbers = rows.contexts["context"].to_numpy()
    loaded, bfloat16 = work.engine.ask(resolved, model, config, taps)
    shared = {
        "corpus": corpus,
        "kept": work.inputs["taps"],
        "aux": aux,
        "model": loaded,
        "taps": taps,
        "batch": config.batch_contexts,
        "bfloat16": bfloat16,
    }
    items = [
        Item(shard_name(index), coordinates, {**shared, "contexts": numbers[start:stop]})
        for index, (start, stop) in enumerate(rows.ranges(config.contexts_per_shard))
    ]
    work.engine.run(items, work.folder, "contexts", work.progress)
    rows.write_table(work.folder / "rows.parquet")
    return {"rows": rows.count, "precision": "bfloat16" if bfloat16 else loaded.dtype}
