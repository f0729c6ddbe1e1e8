"""Two runs over the same contexts side by side: clusters matched by their members."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.report.chunks import ChunkWriter
from cluster.report.config import ReportConfig
from cluster.report.inputs import Inputs, open_inputs, read_sources, read_vocabulary
from cluster.report.members import cluster_ranges, count_background, count_shared, read_members
from cluster.report.numbers import rounded
from cluster.report.records import Tables
from cluster.report.statistics import describe
from scale.errors import UserError
from scale.store import MANIFEST


def matches(labels: NDArray[np.int32], others: NDArray[np.int32], block: int) -> pl.DataFrame:
    """Pairs of clusters with members in common: cluster, other, common, jaccard = |A ∩ B| / |A ∪ B|."""
    counted = pl.DataFrame(schema={"cluster": pl.Int32, "other": pl.Int32, "common": pl.Int64})
    for start in range(0, len(labels), block):
        pair = pl.DataFrame({"cluster": labels[start : start + block], "other": others[start : start + block]})
        both = pair.filter((pl.col("cluster") >= 0) & (pl.col("other") >= 0))
        counted = pl.concat([counted, both.group_by("cluster", "other").agg(common=pl.len().cast(pl.Int64))])
    counted = counted.group_by("cluster", "other").agg(pl.col("common").sum())
    sizes = [np.bincount(side[side >= 0], minlength=1) for side in (labels, others)]
    own, theirs = (side[counted[name].to_numpy()] for side, name in zip(sizes, ("cluster", "other"), strict=True))
    common = counted["common"].to_numpy()
    return counted.with_columns(jaccard=pl.Series(common / (own + theirs - common), dtype=pl.Float64))


def best(pairs: pl.DataFrame, side: str) -> pl.DataFrame:
    """The pair of largest Jaccard for every cluster of one side; ties to the smaller number."""
    other = "other" if side == "cluster" else "cluster"
    ordered = pairs.sort("jaccard", other, descending=[True, False])
    return ordered.unique(side, keep="first", maintain_order=True).sort(side)


def same_rows(run: Inputs, other: Inputs, block: int) -> bool:
    """Whether two runs predict the same tokens at the same places; a block of rows is held at a time."""
    mine, theirs = (found.table("upsampled", "rows").select("context", "position", "token") for found in (run, other))
    rows, others = (table.select(pl.len()).collect().item() for table in (mine, theirs))
    return rows == others and all(
        mine.slice(start, block).collect().equals(theirs.slice(start, block).collect())
        for start in range(0, rows, block)
    )


def open_other(folder: Path, run: Inputs, block: int) -> Inputs:
    """The finished stages of the other run; its rows must be the same tokens."""
    stages = ("corpus", "upsampled", "clusters")
    if not all((folder / stage / MANIFEST).is_file() for stage in stages):
        raise UserError(f"report.compare: {folder} is not a run folder with clusters")
    other = open_inputs({stage: folder / stage for stage in stages})
    if not same_rows(run, other, block):
        raise UserError(f"report.compare: {folder} was not made from the same contexts, so tokens cannot be matched")
    return other


def compare(
    run: Inputs, tables: Tables, config: ReportConfig, folder: Path, directory: dict[str, list[int]]
) -> dict[str, Any] | None:
    """Write the matched pairs, each [cluster, other, common, jaccard], and the other run's list rows."""
    if not config.compare:
        return None
    other = open_other(Path(config.compare), run, config.block_rows)
    labels = other.array("clusters", "labels")
    pairs = matches(tables.labels, labels, config.block_rows)
    mine, theirs = best(pairs, "cluster"), best(pairs, "other")
    mutual = mine.join(theirs, on=["cluster", "other"])
    rows = [[c, o, n, rounded(j)] for c, o, n, j in mine.select("cluster", "other", "common", "jaccard").iter_rows()]
    back = dict(theirs.select("other", "cluster").iter_rows())
    writer = ChunkWriter(folder, "pairs", config.chunk_bytes)
    for row in rows:
        writer.add(row[0], [*row, back.get(row[1]) == row[0]])
    directory["pairs"] = writer.close()
    directory["others"] = _write_others(folder, other, config)
    both = (tables.labels >= 0) & (labels >= 0)
    return {
        "name": Path(config.compare).name,
        "model": other.recorded("model"),
        "count": int(labels.max(initial=-1)) + 1,
        "mutual": len(mutual),
        "mean_jaccard": rounded(float(np.mean(mine["jaccard"].to_numpy()))) if len(mine) else None,
        "clustered_share": rounded(float((labels >= 0).mean())),
        "both_clustered": rounded(float(both.mean())),
    }


def _write_others(folder: Path, other: Inputs, config: ReportConfig) -> list[int]:
    """Cluster, size, conductance, label (targets, preceding, sources, others) of every cluster of the other run."""
    tokens, sources = other.array("corpus", "tokens"), read_sources(other)
    background = count_background(other, tokens, sources, read_vocabulary(other).size, config.block_rows)
    writer = ChunkWriter(folder, "others", config.chunk_bytes)
    facts = other.table("clusters", "clusters").select("cluster", "size", "conductance").sort("cluster").collect()
    ids, sizes = (facts[name].to_numpy().astype(np.int64) for name in ("cluster", "size"))
    for first, last in cluster_ranges(ids, sizes, config.block_rows):
        shared = count_shared(read_members(other, tokens, sources, first, last), background)
        own = facts.filter(pl.col("cluster").is_between(first, last)).iter_rows()
        for (cluster, size, conductance), *columns in zip(
            own, shared.targets, shared.preceding, shared.sources, strict=True
        ):
            label = describe(size, *columns)
            names = [sources.names[source] for source in label.sources]
            row = [cluster, size, rounded(conductance), label.targets, label.preceding, names, label.others]
            writer.add(cluster, row)
    return writer.close()
