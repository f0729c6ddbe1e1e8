"""Stage `draws`: posterior draws of every component and of the full model, one work item per component and chain.

Reads corpus/. Writes one shard per chain (``l0h1-0``: offsets, loss, trace) and ``chains.parquet``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars
import torch

from scale.chains import Draws, draw_chain, mean_loss
from scale.components import FULL, Component, full, select
from scale.config import ModelConfig, SGLDConfig
from scale.corpus import split_tokens
from scale.engine import Item, Workspace, per_worker
from scale.errors import UserError
from scale.forward import Tail
from scale.language_model import LanguageModel, load_language_model
from scale.store import read_array, shard_path, write_table


def chosen_components(language_model: LanguageModel, settings: SGLDConfig) -> list[Component]:
    return select(language_model.model, language_model.architecture, settings.components)


def chain_name(component: str, chain: int) -> str:
    return f"{component.replace(' ', '-')}-{chain}"


def component_named(language_model: LanguageModel, name: str) -> Component:
    if name == FULL:
        return full(language_model.model)
    return select(language_model.model, language_model.architecture, [name])[0]


@per_worker
def pool_tail(corpus: Path, model: ModelConfig, start: int, contexts: int) -> Tail:
    """The contexts that chains are run on, with their hidden states below block ``start``: shared by a whole layer."""
    language_model = load_language_model(model)
    tokens = torch.from_numpy(split_tokens(corpus, "truth", contexts)).long().to(language_model.device)
    return Tail(language_model, tokens, start)


def sample(
    corpus: Path, model: ModelConfig, settings: SGLDConfig, component: str, chain: int
) -> Mapping[str, np.ndarray]:
    """Work item: one chain of one component."""
    language_model = load_language_model(model)
    part = component_named(language_model, component)
    pool = pool_tail(corpus, model, part.start, settings.pool_contexts)
    draws = draw_chain(language_model, part, pool, chain, settings)
    return {"offsets": draws.offsets, "loss": draws.loss, "trace": draws.trace}


def read_draws(folder: Path, component: str, chain: int) -> Draws:
    """A stored chain; the offsets stay on disk until they are used."""
    place = shard_path(folder, chain_name(component, chain))
    return Draws(*(read_array(place / f"{key}.npy") for key in ("offsets", "loss", "trace")))


def reference_loss(corpus: Path, model: ModelConfig, settings: SGLDConfig) -> float:
    """L at the trained weights, on the contexts that the draws' L is taken on."""
    tail = pool_tail(corpus, model, 0, settings.pool_contexts)
    return mean_loss(tail.subset(torch.arange(min(settings.reference_contexts, len(tail.tokens)))))


def chain_rows(folder: Path, component: Component, trained_loss: float, settings: SGLDConfig) -> list[dict[str, Any]]:
    rows = []
    for chain in range(settings.chains):
        draws = read_draws(folder, component.name, chain)
        rows.append(
            {
                "component": component.name,
                "kind": component.kind,
                "layer": component.layer,
                "head": component.head,
                "chain": chain,
                "parameters": draws.offsets.shape[1],
                "mean_loss": float(draws.loss.mean()),
                "diverged": draws.diverged(trained_loss, settings.runaway),
            }
        )
    return rows


SCHEMA = {
    "component": polars.String,
    "kind": polars.String,
    "layer": polars.Int32,
    "head": polars.Int32,
    "chain": polars.Int32,
    "parameters": polars.Int64,
    "mean_loss": polars.Float64,
    "diverged": polars.Boolean,
}


def make(work: Workspace, model: ModelConfig, settings: SGLDConfig) -> dict[str, Any]:
    corpus = work.inputs["corpus"]
    pool_tail.forget()  # a path may have been made again since this process last read it
    language_model = load_language_model(model)
    components = [*chosen_components(language_model, settings), full(language_model.model)]
    by_start = sorted(components, key=lambda c: c.start)  # components of a layer share their prefix
    items = [
        Item(
            chain_name(c.name, chain),
            sample,
            {"corpus": corpus, "model": model, "settings": settings, "component": c.name, "chain": chain},
        )
        for c in by_start
        for chain in range(settings.chains)
    ]
    work.engine.run(items, work.folder, "chains", work.progress)
    trained_loss = reference_loss(corpus, model, settings)
    rows = [row for c in components for row in chain_rows(work.folder, c, trained_loss, settings)]
    table = polars.DataFrame(rows, schema=SCHEMA)
    write_table(work.folder / "chains.parquet", table)
    return summary(table, trained_loss, settings, work)


def summary(table: polars.DataFrame, trained_loss: float, settings: SGLDConfig, work: Workspace) -> dict[str, Any]:
    diverged = table.filter("diverged")
    for row in diverged.iter_rows(named=True):
        work.progress.say(f"  chain {row['chain']} of {row['component']} diverged and is left out")
    if len(diverged) == len(table):
        raise UserError(f"sgld.step_size: every chain diverged at {settings.step_size:g}; try a tenth of it")
    return {
        "components": table.filter(polars.col("component") != FULL)["component"].unique(maintain_order=True).to_list(),
        "chains": settings.chains,
        "draws": settings.draws,
        "trained_loss": trained_loss,
        "diverged": diverged.select("component", "chain").to_dicts(),
    }
