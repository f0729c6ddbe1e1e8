"""One record per cluster for its page, and one row per cluster for the list."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.report.background import Background
from cluster.report.config import ReportConfig
from cluster.report.inputs import Inputs, Sources
from cluster.report.members import cluster_ranges, count_shared, read_members
from cluster.report.numbers import rounded, rounded_list
from cluster.report.statistics import Shared, choose_shown, describe
from cluster.report.windows import cut_windows

# Preceding tokens per cluster that the list's filter can find.
SEARCHABLE_PRECEDING = 16
# Where a list row holds the cluster's label: targets, preceding tokens, sources, others.
LABEL = slice(5, 9)
# Quantiles of the members' positions that a cluster's page states.
POSITION_QUANTILES = (0.1, 0.5, 0.9)


Group = dict[str, NDArray[Any]]
GROUP_COLUMNS = ("row", "context", "position", "source", "distance")


@dataclass(frozen=True)
class Tables:
    """What every batch of clusters reads from: arrays mapped from disk, small tables in memory."""

    inputs: Inputs
    tokens: NDArray[np.int32]
    labels: NDArray[np.int32]
    sources: Sources
    background: Background
    clusters: pl.DataFrame
    components: list[str]


@dataclass(frozen=True)
class ClusterRecord:
    """`page` is what the cluster's page shows, `row` what the list shows and searches."""

    cluster: int
    page: dict[str, Any]
    row: list[Any]


def read_clusters(inputs: Inputs, support_level: float) -> pl.DataFrame:
    """The cluster table in order of id, with the columns of the support table (null where it was not tested)."""
    clusters = inputs.table("clusters", "clusters").collect()
    support = inputs.optional("leakage", "support")
    empty = {"cluster": pl.Int32, "members": pl.Int32, "effect": pl.Float64, "p": pl.Float64, "p_corrected": pl.Float64}
    tested = pl.DataFrame(schema=empty) if support is None else support.select(*empty).collect()
    supported = (pl.col("p_corrected") < support_level) & (pl.col("effect") > 0)
    joined = clusters.join(tested.cast({"cluster": clusters.schema["cluster"]}), on="cluster", how="left")
    nan_to_null = pl.col("effect", "p", "p_corrected").fill_nan(None)
    return joined.with_columns(nan_to_null).with_columns(supported=supported).sort("cluster")


def cluster_records(tables: Tables, config: ReportConfig) -> Iterator[ClusterRecord]:
    """Records of all clusters in order of their ids."""
    ids, sizes = (tables.clusters[name].to_numpy().astype(np.int64) for name in ("cluster", "size"))
    for first, last in cluster_ranges(ids, sizes, config.block_rows):
        members = read_members(tables.inputs, tables.tokens, tables.sources, first, last)
        facts = tables.clusters.filter(pl.col("cluster").is_between(first, last))
        assert members["cluster"].n_unique() == len(facts), "every cluster must have members"
        yield from _batch(tables, config, facts, members)


def _batch(tables: Tables, config: ReportConfig, facts: pl.DataFrame, members: pl.DataFrame) -> Iterator[ClusterRecord]:
    shared = count_shared(members, tables.background)
    profiles = _profiles(tables, facts)
    splits = _splits(members)
    groups = _groups(members)
    each = zip(facts.iter_rows(named=True), groups, shared.targets, shared.preceding, shared.sources, strict=True)
    for i, (fact, group, targets, preceding, sources) in enumerate(each):
        size = len(group["row"])
        assert size == fact["size"], f"cluster {fact['cluster']} has {size} members, not {fact['size']}"
        label = asdict(describe(size, targets, preceding, sources))
        label["sources"] = [tables.sources.names[source] for source in label["sources"]]
        page = {
            **{key: rounded(fact[key]) for key in ("cluster", "size", "conductance", "volume")},
            "label": label | {"covered": rounded(label["covered"])},
            "support": _support(fact),
            "targets": _top(targets, config.top),
            "preceding": _top(preceding, config.top),
            "sources": _named(_top(sources, config.top), tables.sources),
            "positions": np.quantile(group["position"], POSITION_QUANTILES, method="nearest").tolist(),
            "splits": splits[fact["cluster"]],
            "profile": None if profiles is None else rounded_list(profiles[i], digits=3),
            "shown": _shown(tables, config, fact["cluster"], group),
        }
        yield ClusterRecord(fact["cluster"], page, _list_row(fact, label, targets, preceding, config))


def _groups(members: pl.DataFrame) -> list[Group]:
    """The members of each cluster, column by column."""
    edges = np.flatnonzero(np.diff(members["cluster"].to_numpy())) + 1
    columns = {name: np.split(members[name].to_numpy(), edges) for name in GROUP_COLUMNS}
    return [dict(zip(columns, parts, strict=True)) for parts in zip(*columns.values(), strict=True)]


def _splits(members: pl.DataFrame) -> dict[int, dict[str, int]]:
    """How many members of each cluster come from each split of the corpus."""
    counts: dict[int, dict[str, int]] = {}
    for cluster, split, count in members.group_by("cluster", "split").len().sort("cluster", "split").iter_rows():
        counts.setdefault(cluster, {})[split] = count
    return counts


def _support(fact: dict[str, Any]) -> dict[str, Any] | None:
    if fact["p_corrected"] is None:
        return None
    numbers = {key: rounded(fact[key]) for key in ("members", "effect", "p", "p_corrected")}
    return numbers | {"supported": fact["supported"]}


def _top(shared: Shared, top: int) -> dict[str, Any]:
    """Columns of a table of shared items."""
    return {
        "items": shared.items[:top].tolist(),
        "counts": shared.counts[:top].tolist(),
        "log_odds": rounded_list(shared.log_odds[:top], digits=3),
        "distinct": shared.distinct,
    }


def _named(table: dict[str, Any], sources: Sources) -> dict[str, Any]:
    return table | {"items": [sources.names[item] for item in table["items"]]}


def _profiles(tables: Tables, facts: pl.DataFrame) -> NDArray[np.float64] | None:
    """Mean standardised susceptibility (clusters of the batch, components), NaN where there is none."""
    table = tables.inputs.optional("leakage", "profiles")
    if table is None or not tables.components:
        return None
    ids = facts["cluster"].to_numpy()
    place = dict(zip(tables.components, range(len(tables.components)), strict=True))
    column = pl.col("component").replace_strict(place, default=None, return_dtype=pl.Int32)
    wanted = table.filter(pl.col("cluster").is_between(ids[0], ids[-1])).select("cluster", "mean", column=column)
    rows = wanted.drop_nulls("column").collect()
    grid = np.full((len(facts), len(tables.components)), np.nan)
    grid[np.searchsorted(ids, rows["cluster"].to_numpy()), rows["column"].to_numpy()] = rows["mean"].to_numpy()
    return grid


def _shown(tables: Tables, config: ReportConfig, cluster: int, group: Group) -> dict[str, Any]:
    """Examples of the three groups; equal source names of one cluster are stored once."""
    rng = np.random.default_rng([config.seed, cluster])
    chosen = choose_shown(len(group["row"]), config.nearest, config.random, config.edge, rng)
    order = np.concatenate([chosen.nearest, chosen.random, chosen.edge])
    picked = {name: column[order] for name, column in group.items()}
    names, picked["source"] = np.unique(picked["source"], return_inverse=True)
    examples = _examples(tables, config, picked)
    first, second = len(chosen.nearest), len(chosen.nearest) + len(chosen.random)
    return {
        "names": [tables.sources.names[name] for name in names],
        "nearest": examples[:first],
        "random": examples[first:second],
        "edge": examples[second:],
    }


def _examples(tables: Tables, config: ReportConfig, picked: Group) -> list[list[Any]]:
    """One list per example: distance, context, position, source, marked index, tokens, neighbours."""
    rows, contexts, positions = (picked[name].astype(np.int64) for name in ("row", "context", "position"))
    windows = cut_windows(tables.tokens, tables.labels, rows, contexts, positions, config.before, config.after)
    columns = (rounded_list(picked["distance"]), contexts.tolist(), positions.tolist(), picked["source"].tolist())
    return [
        [*numbers, window.marked, window.tokens, window.neighbours]
        for *numbers, window in zip(*columns, windows, strict=True)
    ]


def _list_row(
    fact: dict[str, Any], label: dict[str, Any], targets: Shared, preceding: Shared, config: ReportConfig
) -> list[Any]:
    """Cluster, size, conductance, effect, corrected p, label (four parts), searchable tokens and preceding."""
    return [
        fact["cluster"],
        fact["size"],
        rounded(fact["conductance"]),
        rounded(fact["effect"]),
        rounded(fact["p_corrected"]),
        label["targets"],
        label["preceding"],
        label["sources"],
        label["others"],
        targets.items[: config.searchable].tolist(),
        preceding.items[:SEARCHABLE_PRECEDING].tolist(),
    ]
