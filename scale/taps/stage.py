"""Stage `taps`: what the auxiliary model reads of the measured tokens, at a few evenly spaced layers.

Reads corpus/. Writes shards of ``taps`` (rows, parts x width), rows as in chi/. First comes the residual stream at the
row's own token, which has read both the token and its context: a susceptibility depends on which token came, and the
stream one position earlier cannot know it. Then, unless switched off, the gradients of the row's loss where it was
predicted (`scale.taps.columns`): how the model would have had to speak to foretell the token, which is the half of a
susceptibility that activations do not hold. Last, unless switched off, its first-order responses to every component
(`scale.taps.responses`), along directions that are kept in ``directions.safetensors``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from scale.chi.stage import MEASURED
from scale.config import ModelConfig, SGLDConfig, TapsConfig
from scale.corpus.stage import read_rows
from scale.draws.chosen import chosen_components, component_named, pool_tail
from scale.engine import Item, Workspace, per_worker
from scale.errors import UserError
from scale.model.batches import Budget, memory_explained, remembered_budget
from scale.model.forward import residual_stream
from scale.model.language_model import LanguageModel, load_language_model
from scale.store import read_array, read_manifest, shard_name, shard_path, written
from scale.taps.columns import check_columns, columns
from scale.taps.mean_directions import apart, direction_groups, direction_items
from scale.taps.responses import STEP, Direction, Reach, responses

DIRECTIONS = "directions.safetensors"


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
    """What is read of every row.

    Args:
        layers: Blocks below which the residual stream is read.
        gradients: Whether the gradients of the loss are read there and at the top.
        responses: Components whose responses are read.
        step: Length of the step that responses are taken with.
        reach: How far they are followed.
    """

    layers: tuple[int, ...]
    gradients: bool = False
    responses: tuple[str, ...] = ()
    step: float = 0.0
    reach: Reach = "column"

    def columns(self, width: int) -> int:
        """Numbers in a row."""
        return width * (2 * len(self.layers) + 1 if self.gradients else len(self.layers)) + len(self.responses)


def read_taps(folder: Path) -> Taps:
    """What a finished `taps` stage read."""
    facts = read_manifest(folder).facts
    return Taps(tuple(facts["layers"]), facts["gradients"], tuple(facts["responses"]), facts["step"], facts["reach"])


@per_worker
def load_directions(folder: Path, model: ModelConfig, components: tuple[str, ...]) -> list[Direction]:
    """The mean directions that a `taps` stage keeps, on the model's device."""
    if not components:
        return []
    language_model = load_language_model(model)
    stored = load_file(folder / DIRECTIONS)
    return [Direction(component_named(language_model, n), stored[n].to(language_model.device)) for n in components]


def parts_of(
    language_model: LanguageModel, ids: torch.Tensor, taps: Taps, directions: Sequence[Direction], budget: Budget
) -> list[torch.Tensor]:
    """What is read of every row of some contexts, (contexts, T - 1, ...) each."""
    if not taps.gradients and not directions:
        return [stream[:, 1:] for stream in residual_stream(language_model, ids, taps.layers)]
    layers = range(language_model.architecture.layers + 1) if directions else taps.layers
    found = columns(language_model, ids, layers)
    chosen = [list(layers).index(layer) for layer in taps.layers]
    parts = [found.streams[index][:, 1:] for index in chosen]
    if taps.gradients:
        parts += [*(found.gradients[index] for index in chosen), found.slopes]
    if directions:
        parts.append(responses(language_model, ids, found, directions, taps.step, budget, taps.reach))
    return parts


def tapped(
    language_model: LanguageModel, tokens: np.ndarray, taps: Taps, directions: Sequence[Direction], budget: Budget
) -> np.ndarray:
    """Every row of some contexts, parts joined, float32; as many contexts at a time as the budget allows."""
    ids = torch.from_numpy(np.array(tokens)).long().to(language_model.device)
    found: list[np.ndarray] = []

    def some(begin: int, end: int) -> None:
        parts = parts_of(language_model, ids[begin:end], taps, directions, budget)
        found.append(torch.cat([part.flatten(0, 1).float() for part in parts], dim=1).cpu().numpy())

    budget.ranges(len(ids), lambda: budget.variants(ids.shape[1]), some, "contexts")
    return np.concatenate(found)


@memory_explained()
def measured_taps(
    corpus: Path, folder: Path, model: ModelConfig, taps: Taps, start: int, stop: int
) -> Mapping[str, np.ndarray]:
    """Work item: some of the measured contexts."""
    tokens = read_rows(corpus, MEASURED).take(slice(start, stop))
    language_model = load_language_model(model)
    budget = remembered_budget(language_model.device, model.batch_tokens)
    directions = load_directions(folder, model, taps.responses)
    return {"taps": tapped(language_model, tokens, taps, directions, budget)}


def make_directions(work: Workspace, model: ModelConfig, sgld: SGLDConfig, draws: int) -> None:
    """Write the mean direction of every component."""
    corpus, kept = work.inputs["corpus"], work.folder / DIRECTIONS
    unfinished = work.folder / f"{DIRECTIONS}.part"
    if not kept.exists():
        length, settings = read_rows(corpus, MEASURED).per_context + 1, apart(sgld, draws)
        groups = work.engine.ask(direction_groups, model, settings, length)
        items = direction_items(corpus, model, settings, groups)
        work.engine.run(list(items.values()), unfinished, "directions", work.progress)
        stored = {
            name: torch.from_numpy(np.array(values))
            for names, item in items.items()
            for name, values in zip(
                names, read_array(shard_path(unfinished, item.shard) / "directions.npy"), strict=True
            )
        }
        with written(kept) as temporary:
            save_file(stored, temporary)
    shutil.rmtree(unfinished, ignore_errors=True)


@dataclass(frozen=True)
class Shape:
    """What the model has to do with it: its width, the layers that are read, the names of the chosen components."""

    width: int
    layers: tuple[int, ...]
    components: tuple[str, ...]


def shape_of(corpus: Path, model: ModelConfig, sgld: SGLDConfig, settings: TapsConfig) -> Shape:
    """Refuses a model whose gradients or responses cannot be read."""
    language_model, rows = load_language_model(model), read_rows(corpus, MEASURED)
    architecture = language_model.architecture
    layers = tuple(tap_layers(architecture.layers, settings.count))
    if settings.gradients or settings.responses != "none":
        some = torch.from_numpy(rows.take(slice(1))).long().to(language_model.device)
        check_columns(language_model, some, layers)
    return Shape(architecture.width, layers, tuple(c.name for c in chosen_components(language_model, sgld)))


def make(work: Workspace, model: ModelConfig, sgld: SGLDConfig, settings: TapsConfig) -> dict[str, Any]:
    for cached in (load_directions, pool_tail, remembered_budget):
        cached.forget()  # a path may have been made again since this process last read it
    corpus = work.inputs["corpus"]
    rows = read_rows(corpus, MEASURED)
    shape = work.engine.ask(shape_of, corpus, model, sgld, settings)
    reads_responses = settings.responses != "none"
    if reads_responses:
        make_directions(work, model, sgld, settings.direction_draws)
    reach: Reach = "model" if settings.responses == "model" else "column"
    names = shape.components if reads_responses else ()
    taps = Taps(shape.layers, settings.gradients, names, STEP * sgld.localization**-0.5, reach)
    shared = {"corpus": corpus, "folder": work.folder, "model": model, "taps": taps}
    read = (DIRECTIONS,) if names else ()
    items = [
        Item(shard_name(index), measured_taps, {**shared, "start": start, "stop": stop}, reads=read)
        for index, (start, stop) in enumerate(rows.ranges(settings.contexts_per_shard))
    ]
    work.engine.run(items, work.folder, "contexts", work.progress)
    return {**asdict(taps), "width": shape.width}
