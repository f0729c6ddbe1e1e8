"""The numbers behind the figures, column by column, thinned where a figure could not show them all."""

from typing import Any

import numpy as np
import polars as pl

from cluster.report.inputs import Inputs
from cluster.report.numbers import rounded_list
from cluster.report.verdict import PUBLISHED

ACCURACY = ("pc", "explained", "pearson", "pearson_low", "pearson_high", "ridge_pearson", "ceiling", "pearson_shared")

CHAINS = ("component", "rhat", "ess", "reliability")


def figure_data(inputs: Inputs, clusters: pl.DataFrame, points: int) -> dict[str, Any]:
    """Data of every figure of the overview; None where the run did not measure it."""
    accuracy = inputs.optional("aux", "accuracy")
    leakage = inputs.optional("leakage", "leakage")
    components = inputs.optional("chi", "components")
    return {
        "accuracy": None if accuracy is None else _columns(accuracy.select(ACCURACY).sort("pc").collect()),
        "leakage": None if leakage is None else _leakage(leakage),
        "chains": None if components is None else _chains(components.collect()),
        "clusters": thinned(clusters.select("cluster", "size", "conductance"), points),
        "rejected": _sweeps(inputs, "sweeps", points),
        "null": _sweeps(inputs, "null", points),
    }


def _leakage(table: pl.LazyFrame) -> dict[str, list[Any]]:
    """The published metrics: of activations, layer by layer."""
    own = table.filter(pl.col("input") == PUBLISHED).drop("input")
    return _columns(own.sort("metric", "versus", "layer").collect())


def _chains(components: pl.DataFrame) -> dict[str, list[Any]]:
    """What the chains of every component say of themselves, as far as the run recorded it."""
    return _columns(components.select([name for name in CHAINS if name in components.columns]))


def _sweeps(inputs: Inputs, name: str, points: int) -> dict[str, Any] | None:
    """Best sweeps of the seeds of the null, or of the real seeds that were not accepted."""
    lazy = inputs.optional("clusters", name)
    if lazy is None:
        return None
    kept = lazy.filter(~pl.col("accepted")) if name == "sweeps" else lazy
    return thinned(kept.select("size", "conductance").collect(), points)


def thinned(table: pl.DataFrame, points: int) -> dict[str, Any]:
    """Every n-th row in order of conductance, the extremes kept; `of` is the number of rows there were."""
    ordered = table.sort("conductance", "size")
    if len(ordered) > points:
        ordered = ordered[np.unique(np.linspace(0, len(ordered) - 1, points).round().astype(np.int64))]
    return {"columns": _columns(ordered), "of": len(table)}


def _columns(table: pl.DataFrame) -> dict[str, list[Any]]:
    return {
        name: rounded_list(column) if column.dtype.is_numeric() else column.to_list()
        for name, column in zip(table.columns, table.get_columns(), strict=True)
    }
