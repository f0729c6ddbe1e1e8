"""Leakage as items of an engine: each part of the inputs, and each further layer, is compared by itself, anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aux.config import AuxConfig
from eval.config import LeakageConfig
from eval.heldout import Heldout, other_layers, read_heldout, sample_documents, stream_at
from eval.inputs import gather
from eval.leakage import Comparison
from scale.config import ModelConfig
from scale.corpus.stage import context_tokens
from scale.engine import Item, Workspace, per_worker
from scale.store import read_array, shard_name, shard_path

PARTS = "parts"
COLUMNS = ("metric", "versus", "value", "low", "high")


@dataclass(frozen=True)
class Sources:
    """What is compared: the stages that it is read from, and the settings that say how."""

    inputs: tuple[tuple[str, Path], ...]
    model: ModelConfig
    aux: AuxConfig
    config: LeakageConfig

    @classmethod
    def of(cls, inputs: Mapping[str, Path], model: ModelConfig, aux: AuxConfig, config: LeakageConfig) -> Sources:
        return cls(tuple(sorted(inputs.items())), model, aux, config)


@per_worker
def load_heldout(sources: Sources) -> tuple[Heldout, np.ndarray]:
    """The held-out rows, and the numbers of those that are compared."""
    heldout = read_heldout(dict(sources.inputs), sources.aux, sources.model)
    return heldout, sample_documents(heldout.documents, sources.config.tokens, sources.config.seed)


@per_worker
def load_comparison(sources: Sources) -> Comparison:
    heldout, rows = load_heldout(sources)
    return Comparison(heldout.sides(rows), sources.config)


def columns_of(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {key: np.array([row[key] for row in rows]) for key in COLUMNS}


def compare_part(sources: Sources, input: str, layer: int) -> dict[str, np.ndarray]:
    """Work item: a part of what predictions are made from."""
    heldout, rows = load_heldout(sources)
    part = next(part for part in heldout.parts if (part.input, part.layer) == (input, layer))
    values = gather(heldout.taps, rows, part.columns)
    return columns_of(load_comparison(sources).rows(input, layer, values))


def compare_layer(sources: Sources, layer: int) -> dict[str, np.ndarray]:
    """Work item: the residual stream at a layer that predictions do not see."""
    heldout, rows = load_heldout(sources)
    tokens = context_tokens(dict(sources.inputs)["corpus"], np.unique(heldout.contexts[rows]))
    values = stream_at(sources.model, tokens, layer)
    return columns_of(load_comparison(sources).rows("activations", layer, values))


def items_of(sources: Sources, heldout: Heldout) -> dict[tuple[str, int], Item]:
    """By what they compare."""
    found: dict[tuple[str, int], Item] = {}
    for part in heldout.parts:
        arguments = {"sources": sources, "input": part.input, "layer": part.layer}
        found[part.input, part.layer] = Item(shard_name(len(found)), compare_part, arguments, share="cores")
    if sources.config.layers == "all":
        tapped = [part.layer for part in heldout.parts if part.input == "activations"]
        for layer in other_layers(sources.model, tapped):
            arguments = {"sources": sources, "layer": layer}
            found["activations", layer] = Item(shard_name(len(found)), compare_layer, arguments)
    return found


def leakage_of(work: Workspace, sources: Sources) -> Iterator[dict[str, Any]]:
    """All figures of all parts."""
    folder = work.folder / PARTS
    items = items_of(sources, load_heldout(sources)[0])
    work.engine.run(list(items.values()), folder, "parts of the inputs", work.progress)
    for (name, layer), item in items.items():
        columns = [read_array(shard_path(folder, item.shard) / f"{key}.npy").tolist() for key in COLUMNS]
        for figures in zip(*columns, strict=True):
            yield {"input": name, "layer": layer, **dict(zip(COLUMNS, figures, strict=True))}
    shutil.rmtree(folder)
