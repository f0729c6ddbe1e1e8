"""Stage `taps`: what the auxiliary model reads of the measured tokens, at a few evenly spaced layers.

Reads corpus/. Writes shards of ``taps`` (rows, parts x width), rows as in chi/. First comes the residual stream at the
row's own token, which has read both the token and its context: a susceptibility depends on which token came, and the
stream one position earlier cannot know it. Then, unless switched off, the gradients of the row's loss where it was
predicted (`scale.columns`): how the model would have had to speak to foretell the token, which is the half of a
susceptibility that activations do not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scale.batches import Budget, memory_explained, remembered_budget
from scale.chi import MEASURED
from scale.columns import check_columns, columns
from scale.config import ModelConfig, TapsConfig
from scale.corpus import read_rows
from scale.engine import Item, Workspace
from scale.errors import UserError
from scale.forward import residual_stream
from scale.language_model import LanguageModel, load_language_model
from scale.store import read_manifest, shard_name


def tap_layers(depth: int, count: int) -> list[int]:
    """``count`` evenly spaced intermediate layers: the stream below block l, for l strictly between 0 and ``depth``."""
    layers = [round(depth * (index + 1) / (count + 1)) for index in range(count)]
    if len(set(layers)) < count or layers[0] < 1 or layers[-1] > depth:
        raise UserError(
            f"taps.count: a model of {depth} blocks has no {count} intermediate layers; use {depth - 1} or fewer"
        )
    return layers


@dataclass(frozen=True)
class Taps:
    """What is read of every row: the residual stream below these blocks, and whether the loss's gradients there."""

    layers: tuple[int, ...]
    gradients: bool

    @property
    def parts(self) -> int:
        """How many vectors of the model's width a row holds; the last gradient is that at the top."""
        return 2 * len(self.layers) + 1 if self.gradients else len(self.layers)


def read_taps(folder: Path) -> Taps:
    """What a finished `taps` stage read."""
    facts = read_manifest(folder).facts
    return Taps(tuple(facts["layers"]), facts["gradients"])


def parts_of(language_model: LanguageModel, ids: torch.Tensor, taps: Taps) -> list[torch.Tensor]:
    """The parts of every row of some contexts, (contexts, T - 1, width) each."""
    if not taps.gradients:
        return [stream[:, 1:] for stream in residual_stream(language_model, ids, taps.layers)]
    streams, gradients = columns(language_model, ids, taps.layers)
    return [*(stream[:, 1:] for stream in streams), *gradients]


def tapped(language_model: LanguageModel, tokens: np.ndarray, taps: Taps, budget: Budget) -> np.ndarray:
    """Every row of some contexts, parts concatenated, float32; as many contexts at a time as the budget allows."""
    ids = torch.from_numpy(np.array(tokens)).long().to(language_model.device)
    found: list[np.ndarray] = []

    def some(begin: int, end: int) -> None:
        parts = parts_of(language_model, ids[begin:end], taps)
        found.append(torch.cat([part.flatten(0, 1).float() for part in parts], dim=1).cpu().numpy())

    budget.ranges(len(ids), lambda: budget.variants(ids.shape[1]), some, "contexts")
    return np.concatenate(found)


@memory_explained()
def measured_taps(corpus: Path, model: ModelConfig, taps: Taps, start: int, stop: int) -> Mapping[str, np.ndarray]:
    """Work item: some of the measured contexts."""
    tokens = read_rows(corpus, MEASURED).tokens[start:stop]
    language_model = load_language_model(model)
    budget = remembered_budget(language_model.device, model.batch_tokens)
    return {"taps": tapped(language_model, tokens, taps, budget)}


def make(work: Workspace, model: ModelConfig, settings: TapsConfig) -> dict[str, Any]:
    corpus = work.inputs["corpus"]
    language_model, rows = load_language_model(model), read_rows(corpus, MEASURED)
    architecture = language_model.architecture
    taps = Taps(tuple(tap_layers(architecture.layers, settings.count)), settings.gradients)
    if taps.gradients:
        some = torch.from_numpy(np.array(rows.tokens[:1])).long().to(language_model.device)
        check_columns(language_model, some, taps.layers)
    items = [
        Item(
            shard_name(index),
            measured_taps,
            {"corpus": corpus, "model": model, "taps": taps, "start": start, "stop": stop},
        )
        for index, (start, stop) in enumerate(rows.ranges(settings.contexts_per_shard))
    ]
    work.engine.run(items, work.folder, "contexts", work.progress)
    return {"layers": list(taps.layers), "gradients": taps.gradients, "width": architecture.width}
