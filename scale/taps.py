"""Stage `taps`: residual-stream activations of the measured tokens, at a few evenly spaced layers.

Reads corpus/. Writes shards of ``activations`` (rows, taps x width), rows as in chi/. A row holds the stream at the
row's own token, which has read both the token and its context: a susceptibility depends on which token came, and the
stream one position earlier cannot know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scale.batches import Budget, memory_explained, remembered_budget
from scale.chi import MEASURED
from scale.config import ModelConfig, TapsConfig
from scale.corpus import read_rows
from scale.engine import Item, Workspace
from scale.errors import UserError
from scale.forward import residual_stream
from scale.language_model import LanguageModel, load_language_model
from scale.store import shard_name


def tap_layers(depth: int, count: int) -> list[int]:
    """``count`` evenly spaced intermediate layers: the stream below block l, for l strictly between 0 and ``depth``."""
    layers = [round(depth * (index + 1) / (count + 1)) for index in range(count)]
    if len(set(layers)) < count or layers[0] < 1 or layers[-1] > depth:
        raise UserError(
            f"taps.count: a model of {depth} blocks has no {count} intermediate layers; use {depth - 1} or fewer"
        )
    return layers


def tap_parts(language_model: LanguageModel, ids: torch.Tensor, layers: Sequence[int]) -> list[torch.Tensor]:
    """What the rows of some contexts read, part by part: (contexts, T - 1, width) each, nothing copied."""
    return [stream[:, 1:] for stream in residual_stream(language_model, ids, layers)]


def tapped(language_model: LanguageModel, tokens: np.ndarray, layers: list[int], budget: Budget) -> np.ndarray:
    """Activations of every row of some contexts, taps concatenated, float32; as many at a time as the budget allows."""
    ids = torch.from_numpy(np.array(tokens)).long().to(language_model.device)
    found: list[np.ndarray] = []

    def some(begin: int, end: int) -> None:
        parts = tap_parts(language_model, ids[begin:end], layers)
        found.append(torch.cat([part.flatten(0, 1).float() for part in parts], dim=1).cpu().numpy())

    budget.ranges(len(ids), lambda: budget.variants(ids.shape[1]), some, "contexts")
    return np.concatenate(found)


@memory_explained()
def activations(corpus: Path, model: ModelConfig, layers: list[int], start: int, stop: int) -> Mapping[str, np.ndarray]:
    """Work item: the taps of some of the measured contexts."""
    tokens = read_rows(corpus, MEASURED).take(slice(start, stop))
    language_model = load_language_model(model)
    budget = remembered_budget(language_model.device, model.batch_tokens)
    return {"activations": tapped(language_model, tokens, layers, budget)}


def make(work: Workspace, model: ModelConfig, settings: TapsConfig) -> dict[str, Any]:
    corpus = work.inputs["corpus"]
    architecture = load_language_model(model).architecture
    layers = tap_layers(architecture.layers, settings.count)
    items = [
        Item(
            shard_name(index),
            activations,
            {"corpus": corpus, "model": model, "layers": layers, "start": start, "stop": stop},
        )
        for index, (start, stop) in enumerate(read_rows(corpus, MEASURED).ranges(settings.contexts_per_shard))
    ]
    work.engine.run(items, work.folder, "contexts", work.progress)
    return {"layers": layers, "width": architecture.width}
