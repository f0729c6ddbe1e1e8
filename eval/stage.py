"""Stage `leakage`: whether predictions and clusters are to be believed, on held-out documents.

Reads corpus/, chi/, taps/, aux/, upsampled/ and clusters/. Writes

    leakage.parquet     per part of the inputs: how close to it truth and prediction lie
    noise.parquet       figures of neighbours and clusters, within shared draws and across independent draws
    support.parquet     per cluster: are its tokens close in ground truth, beyond what token and activations explain?
    stability.parquet   per cluster: is it found again, from other seeds, documents, draws?
    profiles.parquet    per cluster and component: mean standardised susceptibility
    summary.json        the verdict on leakage in words, and the figures over all clusters

docs/belief.md says what each is worth.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import polars as pl

from aux.basis import Basis
from aux.config import AuxConfig
from cluster.config import ClusterConfig
from eval.config import LeakageConfig
from eval.heldout import Heldout
from eval.leakage_items import Sources, leakage_of, load_comparison, load_heldout
from eval.matching import cells, sketch
from eval.noise import SCHEMA, Measured, cluster_rows, half_rows, neighbour_rows, passing, supports
from eval.profiles import profiles
from eval.recovered import for_the_sample, in_the_sample, on_the_run, truth_and_prediction
from eval.stability import neighbour_graph
from eval.verdict import verdicts
from scale.config import ModelConfig
from scale.engine import Workspace
from scale.store import read_manifest, write_json, write_table

LEAKAGE = {"input": pl.String, "layer": pl.Int32, "metric": pl.String, "versus": pl.String} | dict.fromkeys(
    ("value", "low", "high"), pl.Float64
)


def leakage_table(work: Workspace, sources: Sources) -> pl.DataFrame:
    heldout, rows = load_heldout(sources)
    work.progress.say(f"  leakage of {len(heldout.parts)} parts of the inputs, {len(rows)} tokens")
    found = pl.DataFrame(list(leakage_of(work, sources)), schema=LEAKAGE)
    return found.sort("input", "layer", descending=[True, False], maintain_order=True)


def measured_rows(heldout: Heldout, config: LeakageConfig) -> Measured:
    layers = sum(part.input == "activations" for part in heldout.parts)
    described = sketch(heldout.activations(), layers, config.seed)
    alike = cells(heldout.tokens, described, config.cell)
    return Measured(heldout.measured, heldout.documents, heldout.tokens, alike, heldout.labels)


def support_table(across: pl.DataFrame, by_token: pl.DataFrame) -> pl.DataFrame:
    """Matched on target token and activations, and on the target token alone beside it."""
    renamed = by_token.select("cluster", effect_token="effect", p_token="p", p_token_corrected="p_corrected")
    return across.join(renamed, on="cluster", how="left").sort("cluster")


def make(
    work: Workspace, model: ModelConfig, aux: AuxConfig, cluster: ClusterConfig, config: LeakageConfig
) -> dict[str, Any]:
    inputs = work.inputs
    for kept in (load_heldout, load_comparison):
        kept.forget()  # a path may have been made again since this process last read it
    sources = Sources.of(inputs, model, aux, config)
    heldout, rows = load_heldout(sources)
    leakage = leakage_table(work, sources)

    work.progress.say("  figures within shared draws and across independent draws")
    everything = measured_rows(heldout, config)
    some = everything.take(rows)
    support = supports(everything.halves, everything.labels, everything.cells, config)
    by_token = supports(everything.halves, everything.labels, everything.tokens, config)["across"]
    search, threshold = for_the_sample(cluster, len(rows)), read_manifest(inputs["clusters"]).facts["max_conductance"]
    described = {
        "prediction": heldout.predicted[rows], "ground truth": some.halves.mean(axis=1),
        "first half of the draws": some.halves[:, 0], "second half of the draws": some.halves[:, 1],
    }  # fmt: skip
    graphs = {name: neighbour_graph(vectors, search) for name, vectors in described.items()}
    halves = [graphs["first half of the draws"], graphs["second half of the draws"]]
    of_halves, _ = half_rows(some, halves, search, threshold, config)
    noise = neighbour_rows(some, config) + cluster_rows(everything, support, config) + of_halves

    work.progress.say("  clusters looked for again")
    stability = pl.concat(
        [on_the_run(inputs, cluster, threshold, config), in_the_sample(graphs, some.labels, search, threshold, config)]
    )
    agree = truth_and_prediction(graphs["ground truth"], graphs["prediction"], search, threshold, config)

    tables = {
        "leakage": leakage, "noise": pl.DataFrame(noise, schema=SCHEMA), "stability": stability,
        "support": support_table(support["across"], by_token),
        "profiles": profiles(inputs, Basis.load(inputs["aux"])),
    }  # fmt: skip
    for name, table in tables.items():
        write_table(work.folder / f"{name}.parquet", table)
    facts = summary(tables, len(rows), config) | {"agreement": dict(zip(
        ("truth_with_prediction", "clusters_of_truth", "clusters_of_prediction"), (asdict(agree[0]), *agree[1:]),
        strict=True,
    ))}  # fmt: skip
    write_json(work.folder / "summary.json", facts)
    return facts


def summary(tables: dict[str, pl.DataFrame], tokens: int, config: LeakageConfig) -> dict[str, Any]:
    support, noise, stability = tables["support"], tables["noise"], tables["stability"]
    whole = noise.filter(pl.col("cluster").is_null()).drop("cluster")
    recovered = stability.group_by("change", maintain_order=True).agg(pl.col("recovery").median())
    passed = support.select("cluster", p_corrected="p_token_corrected")
    return {
        "tokens": tokens,
        **peaks(tables["leakage"].filter(pl.col("input") == "activations")),
        "verdict": {name: asdict(verdict) for name, verdict in verdicts(tables["leakage"].to_dicts()).items()},
        "tested": int(support["p_corrected"].is_not_null().sum()),
        "untestable": support.filter(pl.col("p_corrected").is_null())["cluster"].to_list(),
        "supported": int(passing(support, config).sum()),
        "supported_beyond_token": int(passing(passed, config).sum()),
        "noise": {row.pop("figure"): row for row in whole.to_dicts()},
        "recovery": dict(recovered.iter_rows()),
    }


def peaks(table: pl.DataFrame) -> dict[str, float]:
    """The largest value over layers of each metric against each side."""
    best = table.group_by("metric", "versus").agg(pl.col("value").max()).sort("metric", "versus")
    return {f"{metric}_{side}".replace(" ", "_"): value for metric, side, value in best.iter_rows()}
