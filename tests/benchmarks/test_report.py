from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.report.measure import build_once, sizes
from benchmarks.report.tables import Made, make_tables

MADE = Made(30, mean_size=30, vocabulary=400, layers=2, heads=2, pcs=6)


def test_made_tables_are_a_run_that_the_report_reads(tmp_path: Path) -> None:
    folders = make_tables(tmp_path / "run", MADE)
    members = pl.read_parquet(folders["clusters"] / "members.parquet")
    labels = np.load(folders["clusters"] / "labels.npy")
    assert members["cluster"].to_list() == np.sort(labels[labels >= 0]).tolist()
    assert np.bincount(labels[labels >= 0]).min() >= 20
    leading = members.group_by("cluster", "token").len().group_by("cluster").agg(pl.col("len").max())
    sizes_by_cluster = members.group_by("cluster").len()
    share = leading.join(sizes_by_cluster, on="cluster", suffix="_all").select(pl.col("len") / pl.col("len_all"))
    assert share.to_series().median() > 0.6
    built = build_once(tmp_path / "run", tmp_path / "report", 50)
    assert built["cpu_s"] > 0
    assert built["own_mib"] is None or 20 < built["own_mib"] <= built["peak_mib"]
    found = sizes(tmp_path / "report")
    assert found["page_kb"] < 3000
    assert 0 < found["largest_chunk_kb"] <= 1000


def test_the_same_seed_makes_the_same_tables(tmp_path: Path) -> None:
    folders = [make_tables(tmp_path / name, MADE) for name in ("a", "b")]
    for stage, table in (("clusters", "members"), ("leakage", "profiles"), ("upsampled", "rows")):
        one, other = (pl.read_parquet(found[stage] / f"{table}.parquet") for found in folders)
        assert one.equals(other)
