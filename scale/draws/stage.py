"""Stage `draws`: posterior draws of every component and of the full model, one work item per group of chains.

Reads corpus/. Writes a shard per group (``loss``, ``trace``, and a safetensors file per chain) and ``chains.parquet``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars
from safetensors.torch import load_file, save_file

from scale.config import ModelConfig, SGLDConfig
from scale.draws.chain_plan import Plan, plan_chains, why_too_large
from scale.draws.chains import ChainKey, Draws, Group
from scale.draws.chosen import component_named, pool_tail
from scale.draws.diagnostics import mixing
from scale.draws.drawfile import DrawFile, create, slice_name
from scale.draws.groups import group_of
from scale.engine import Item, Workspace
from scale.errors import UserError
from scale.model.batches import memory_explained, remembered_budget
from scale.model.components import FULL, Component
from scale.model.language_model import LanguageModel, load_language_model
from scale.model.variants import slice_shape
from scale.seeds import seed_for
from scale.storage import snapshots
from scale.store import read_array, shard_path, write_table, written

CHECKPOINT = "checkpoint"
#: Characters of a component's name in the name of a file; a group's name holds two.
LONGEST = 80


def file_name(component: str) -> str:
    """A component's name as part of a file's; long unions are cut, and told apart by a number."""
    name = component.replace(" ", "-")
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}~{seed_for(component):016x}"


def chain_file(component: str, chain: int) -> str:
    return f"{file_name(component)}-{chain}.safetensors"


def group_name(keys: Sequence[ChainKey]) -> str:
    names = [f"{file_name(key.component.name)}-{key.chain}" for key in (keys[0], keys[-1])]
    return "..".join(dict.fromkeys(names))


def create_files(folder: Path, group: Group, language_model: LanguageModel) -> None:
    for key in group.keys:
        shapes = {
            slice_name(where): slice_shape(where, language_model.parameters[where.parameter])
            for where in key.component.slices
        }
        path = folder / chain_file(key.component.name, key.chain)
        create(path, shapes, group.rows, np.dtype(group.settings.storage))


@memory_explained()
def sample(
    folder: Path, corpus: Path, model: ModelConfig, settings: SGLDConfig, chains: tuple[tuple[str, int], ...]
) -> Mapping[str, np.ndarray]:
    """Work item: a group of chains, from its last checkpoint if there is one."""
    language_model = load_language_model(model)
    keys = [ChainKey(component_named(language_model, name), chain) for name, chain in chains]
    pool = pool_tail(corpus, model, keys[0].component.start, settings.pool_contexts)
    group = group_of(keys, pool, settings, remembered_budget(language_model.device, model.batch_tokens))
    saved = folder / CHECKPOINT
    if saved.exists():
        group.restore(load_file(saved))
    elif group.width:
        create_files(folder, group, language_model)
    names = [chain_file(key.component.name, key.chain) for key in keys] if group.width else []
    files = [DrawFile(folder / name, "r+") for name in names]

    def keep(index: int, draws: np.ndarray) -> None:
        for file, row in zip(files, draws, strict=True):
            file[index] = row

    def checkpoint() -> None:
        for file in files:
            file.flush()
        with written(saved, make_folder=False) as temporary:
            save_file({name: tensor.cpu().contiguous() for name, tensor in group.state().items()}, temporary)
        snapshots.saved(folder)

    trace = group.run(keep, checkpoint).numpy()
    for file in files:
        file.flush()
    saved.unlink(missing_ok=True)
    return {"loss": group.loss, "trace": trace}


def read_draws(folder: Path, row: Mapping[str, Any]) -> Draws:
    """A stored chain, named by its row in ``chains.parquet``; the draws stay on disk until they are used."""
    place = shard_path(folder, row["shard"])
    path = place / chain_file(row["component"], row["chain"])
    loss, trace = (read_array(place / f"{key}.npy")[row["place"]] for key in ("loss", "trace"))
    kept = path.exists() or row["component"] != FULL  # of the full model there may be nothing but L
    return Draws(DrawFile(path) if kept else [], loss, trace)


def chain_rows(folder: Path, plan: Plan, settings: SGLDConfig) -> list[dict[str, Any]]:
    rows = []
    for keys in plan.groups:
        place = shard_path(folder, group_name(keys))
        losses, traces = read_array(place / "loss.npy"), read_array(place / "trace.npy")
        for index, key in enumerate(keys):
            component = key.component
            draws = Draws([], losses[index], traces[index])
            rows.append(
                {
                    "component": component.name,
                    "kind": component.kind,
                    "layer": component.layer,
                    "head": component.head,
                    "chain": key.chain,
                    "parameters": plan.sizes[component.name],
                    "mean_loss": float(draws.loss.mean()),
                    "diverged": draws.diverged(plan.trained, settings.runaway),
                    **vars(mixing(draws.loss[None])),
                    "shard": group_name(keys),
                    "place": index,
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
    "rhat": polars.Float64,
    "ess": polars.Float64,
    "autocorrelation_time": polars.Float64,
    "lag1": polars.Float64,
    "shard": polars.String,
    "place": polars.Int32,
}


def half_chains(chains: polars.DataFrame, component: str) -> list[list[dict[str, Any]]]:
    """The chains of each half that have not diverged: the first half of the chains against the second."""
    rows = chains.filter(polars.col("component") == component)
    middle = len(rows) // 2
    usable = rows.filter(~polars.col("diverged")).to_dicts()
    return [[row for row in usable if row["chain"] < middle], [row for row in usable if row["chain"] >= middle]]


def check_usable(
    table: polars.DataFrame, components: Sequence[Component], explain: Callable[[str, Component], str]
) -> None:
    """There must be chains in both halves of at least one component, and of the full model that all are compared with.

    The step size is explained with the first that failed.
    """
    failed = [component for component in components if not all(half_chains(table, component.name))]
    parts = [component for component in failed if component.name != FULL]
    if len(parts) == len(components) - 1:
        what = "every chain" if table["diverged"].all() else "chains of every component"
        raise UserError(explain(what, parts[0]))
    if len(parts) < len(failed):
        raise UserError(explain("the chains of the full model", next(c for c in failed if c.name == FULL)))


def make(work: Workspace, model: ModelConfig, settings: SGLDConfig) -> dict[str, Any]:
    corpus = work.inputs["corpus"]
    for kept in (pool_tail, remembered_budget):
        kept.forget()  # a path may have been made again since this process last read it
    plan = work.engine.ask(plan_chains, corpus, model, settings)
    items = [
        Item(
            group_name(keys),
            sample,
            {
                "corpus": corpus,
                "model": model,
                "settings": settings,
                "chains": tuple((key.component.name, key.chain) for key in keys),
            },
            keeps_files=True,
        )
        for keys in plan.groups
    ]
    work.engine.run(items, work.folder, "chains", work.progress)
    rows = chain_rows(work.folder, plan, settings)
    order = {component.name: index for index, component in enumerate(plan.components)}
    rows.sort(key=lambda row: (order[row["component"]], row["chain"]))
    table = polars.DataFrame(rows, schema=SCHEMA)
    write_table(work.folder / "chains.parquet", table)

    def explain(what: str, component: Component) -> str:
        return work.engine.ask(why_too_large, corpus, model, settings, what, component, plan.trained)

    check_usable(table, sorted(plan.components, key=lambda component: plan.sizes[component.name]), explain)
    return {**summary(table, plan.trained, settings, work), "device": plan.device}


def summary(table: polars.DataFrame, trained: float, settings: SGLDConfig, work: Workspace) -> dict[str, Any]:
    diverged = table.filter("diverged")
    for row in diverged.iter_rows(named=True):
        work.progress.say(f"  chain {row['chain']} of {row['component']} diverged and is left out")
    return {
        "components": table.filter(polars.col("component") != FULL)["component"].unique(maintain_order=True).to_list(),
        "chains": settings.chains,
        "draws": settings.draws,
        "trained_loss": trained,
        "diverged": diverged.select("component", "chain").to_dicts(),
    }
