"""What a run may hold beyond its stages' usual tables: stability of the clusters, labels written for them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from cluster.report.inputs import Inputs
from cluster.report.numbers import rounded
from scale.errors import UserError

Written = dict[int, dict[str, Any]]


@dataclass(frozen=True)
class Stability:
    """How far each cluster was found again, in every way that was tried: name and number.

    Args:
        ways: Their names; the first is the one that lists show.
        table: Per cluster, pairs of way and number.
    """

    ways: list[str]
    table: dict[int, list[list[Any]]]

    def of(self, cluster: int) -> list[list[Any]] | None:
        """Pairs of way and number, or None where the cluster was not tried."""
        return self.table.get(cluster)

    def first(self, cluster: int) -> float | None:
        """In the first way, or None where the cluster was not tried so."""
        return dict(self.table.get(cluster, ())).get(self.ways[0])


def read_stability(inputs: Inputs) -> Stability | None:
    """The table `stability` beside the support, if the run has one: a row per cluster, or per cluster and way."""
    lazy = inputs.optional("leakage", "stability")
    if lazy is None:
        return None
    table = lazy.collect()
    numbers = [name for name, kind in table.schema.items() if kind.is_float()]
    words = [name for name, kind in table.schema.items() if kind == pl.String]
    if words and numbers:
        table = table.pivot(words[0], index="cluster", values=numbers[0], aggregate_function="mean")
        numbers = [name for name in table.columns if name != "cluster"]
    found: dict[int, list[list[Any]]] = {}
    for row in table.iter_rows(named=True):
        pairs = [[name, rounded(row[name], 3)] for name in numbers]
        found[row["cluster"]] = [pair for pair in pairs if pair[1] is not None]
    return Stability(numbers, {cluster: pairs for cluster, pairs in found.items() if pairs})


def read_written(path: str) -> Written:
    """Labels written by someone: columns cluster, text, by (who), detection (their score on held-out members)."""
    if not path:
        return {}
    if not Path(path).is_file():
        raise UserError(f"report.labels: {path} is missing; name a table of labels or leave the key out")
    table = pl.read_parquet(path)
    absent = {"cluster", "text", "by", "detection"} - set(table.columns)
    if absent:
        raise UserError(f"report.labels: {path} has no column {', '.join(sorted(absent))}")
    return {
        row["cluster"]: {"text": row["text"], "by": row["by"], "detection": rounded(row["detection"], 3)}
        for row in table.iter_rows(named=True)
    }
