"""One record per cluster for its page, and one row per cluster for the list."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.report.background import Background
from cluster.report.config import ReportConfig
from cluster.report.detection import Bigrams
from cluster.report.examples import Group, digest, pieces, shown
from cluster.report.extras import Stability, Written
from cluster.report.folds import fold_scores
from cluster.report.groups import bounds, cut
from cluster.report.inputs import Inputs, Sources
from cluster.report.members import SharedColumns, cluster_ranges, count_shared, read_members
from cluster.report.numbers import rounded, rounded_array, rounded_list, significant
from cluster.report.places import Places
from cluster.report.shares import position_tables, positions, top_table
from cluster.report.statistics import Shared, describe
from cluster.report.walk_profile import Graph, walk_profile

GROUP_COLUMNS = ("row", "context", "position", "token", "source", "distance", "pagerank")
# Where a list row holds the cluster's label: targets, preceding tokens, sources, others.
LABEL = slice(5, 9)


@dataclass(frozen=True)
class Tables:
    """What every batch of clusters reads from: arrays mapped from disk, small tables in memory."""

    inputs: Inputs
    tokens: NDArray[np.int32]
    labels: NDArray[np.int32]
    sources: Sources
    background: Background
    folds: list[Bigrams]
    clusters: pl.DataFrame
    components: list[str]
    places: Places
    graph: Graph | None
    stability: Stability | None
    written: Written


@dataclass(frozen=True)
class ClusterRecord:
    """`page` is what the cluster's page shows, `row` what the list shows; `digest` and `members` are read on demand."""

    cluster: int
    page: dict[str, Any]
    row: list[Any]
    digest: list[list[int]]
    members: list[list[Any]]
    targets: Shared
    preceding: Shared


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


@dataclass(frozen=True)
class _Batch:
    """What is computed for a batch of clusters at once, one entry per cluster."""

    groups: list[Group]
    shared: SharedColumns
    examples: Iterator[dict[str, Any]]
    positions: list[list[int]]
    bins: list[dict[str, Any]]
    profiles: list[list[float | None]] | None
    dominant: list[int | None]
    pcs: list[list[float]]
    places: list[list[int]]
    nearest: list[list[list[Any]]]
    splits: dict[int, dict[str, int]]
    scores: list[float | None]


def _batch(tables: Tables, config: ReportConfig, facts: pl.DataFrame, members: pl.DataFrame) -> Iterator[ClusterRecord]:
    ids, ends = facts["cluster"].to_numpy().astype(np.int64), bounds(members["cluster"].to_numpy())
    groups, where = _groups(members, ends), members["position"].to_numpy()
    profiles = _profiles(tables, facts)
    batch = _Batch(
        groups=groups,
        shared=count_shared(members, tables.background),
        examples=shown(tables.tokens, tables.labels, tables.sources, config, ids.tolist(), groups),
        positions=positions(where, ends),
        bins=position_tables(where, ends, tables.background),
        profiles=None if profiles is None else rounded_array(profiles, digits=3),
        dominant=_dominant(profiles, len(ids)),
        pcs=rounded_array(tables.places.profile[ids], digits=3),
        places=tables.places.rows(ids),
        nearest=tables.places.nearest_of(ids),
        splits=_splits(members),
        scores=fold_scores(members, tables.background, tables.folds),
    )
    for i, fact in enumerate(facts.iter_rows(named=True)):
        yield _record(tables, config, fact, batch, i)


def _record(tables: Tables, config: ReportConfig, fact: dict[str, Any], batch: _Batch, i: int) -> ClusterRecord:
    group = batch.groups[i]
    targets, preceding, sources = (
        part[i] for part in (batch.shared.targets, batch.shared.preceding, batch.shared.sources)
    )
    cluster, size = fact["cluster"], len(group["row"])
    assert size == fact["size"], f"cluster {cluster} has {size} members, not {fact['size']}"
    label = dict(vars(describe(size, targets, preceding, sources)))
    label["sources"] = [tables.sources.names[source] for source in label["sources"]]
    written = tables.written.get(cluster)
    examples = next(batch.examples)
    page: dict[str, Any] = {
        **{key: rounded(fact[key]) for key in ("cluster", "size", "conductance", "volume")},
        **{key: rounded(fact.get(key)) for key in ("depth", "cohesion")},
        "label": label | {"covered": rounded(label["covered"]), "detection": rounded(batch.scores[i], 3)},
        "written": written,
        "support": _support(fact),
        "stability": None if tables.stability is None else tables.stability.of(cluster),
        "targets": top_table(targets, config.top),
        "preceding": top_table(preceding, config.top),
        "sources": _named(top_table(sources, config.top), tables.sources),
        "positions": batch.positions[i],
        "bins": batch.bins[i],
        "splits": batch.splits[cluster],
        "profile": None if batch.profiles is None else batch.profiles[i],
        "pcs": batch.pcs[i],
        "sweep": _sweep(tables.graph, group),
        "nearest": batch.nearest[i],
        "shown": examples,
    }
    return ClusterRecord(
        cluster=cluster,
        page=page,
        row=_list_row(tables, fact, page, batch.places[i], batch.dominant[i]),
        digest=digest(examples, config),
        members=pieces(cluster, group, tables.sources),
        targets=targets,
        preceding=preceding,
    )


def _groups(members: pl.DataFrame, ends: NDArray[np.int64]) -> list[Group]:
    """The members of each cluster, column by column; distances as they are written."""
    names = [name for name in GROUP_COLUMNS if name in members.columns]
    values = {name: members[name].to_numpy() for name in names}
    values["distance"] = significant(values["distance"])
    columns = {name: cut(column, ends) for name, column in values.items()}
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


def _named(table: dict[str, Any], sources: Sources) -> dict[str, Any]:
    return table | {"items": [sources.names[item] for item in table["items"]]}


def _sweep(graph: Graph | None, group: Group) -> dict[str, Any] | None:
    """The conductance of the cluster's members as they were taken in, or None where the graph was not kept."""
    if graph is None or "pagerank" not in group:
        return None
    sizes, conductance = walk_profile(graph, group["row"].astype(np.int64), group["pagerank"])
    return {"size": sizes, "conductance": rounded_list(conductance)}


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


def _dominant(profiles: NDArray[np.float64] | None, count: int) -> list[int | None]:
    """The component of largest absolute mean susceptibility."""
    if profiles is None:
        return [None] * count
    size = np.where(np.isfinite(profiles), np.abs(profiles), -1.0)
    return [int(place) if own[place] >= 0 else None for own, place in zip(size, size.argmax(axis=1), strict=True)]


def _list_row(
    tables: Tables, fact: dict[str, Any], page: dict[str, Any], place: list[int], dominant: int | None
) -> list[Any]:
    """Cluster, size, conductance, effect, corrected p, label (four parts), place on the map (x, y, neighbourhood,
    region), dominant component, leading source, stability, detection score, written label."""
    cluster, label = fact["cluster"], page["label"]
    return [
        cluster,
        fact["size"],
        *(rounded(fact[key]) for key in ("conductance", "effect", "p_corrected")),
        *(label[key] for key in ("targets", "preceding", "sources", "others")),
        *place,
        dominant,
        page["sources"]["items"][0],
        None if tables.stability is None else tables.stability.first(cluster),
        label["detection"],
        None if page["written"] is None else page["written"]["text"],
    ]
