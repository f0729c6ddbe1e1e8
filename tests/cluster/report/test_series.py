"""What is read on demand: postings, contexts, all members, stability, written labels."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cluster.report.build import build
from cluster.report.comparison import best, matches
from cluster.report.config import ReportConfig
from cluster.report.examples import pieces
from cluster.report.extras import read_stability
from cluster.report.inputs import Sources, open_inputs
from scale.errors import UserError
from scale.store import write_array, write_table

SMALL = ReportConfig(nearest=3, random=4, edge=2, before=6, after=3, chunk_bytes=30_000)


def read(report: Path, name: str) -> Any:
    text = (report / "data" / f"{name}.js").read_text("ascii")
    return json.loads(text[text.index(",") + 1 : -3])


def series(report: Path, name: str) -> list[Any]:
    files = sorted((report / "data" / name).iterdir())
    return [record for path in files for record in read(report, f"{name}/{path.stem}")]


@pytest.fixture(scope="module")
def report(made_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    build(made_run.folders, folder, SMALL)
    return folder


def test_postings_name_every_cluster_of_every_token(made_run: Any, report: Path) -> None:
    expected = Counter(made_run.members.select("token", "cluster").iter_rows())
    found = {(t, pairs[i]): pairs[i + 1] for t, pairs in series(report, "targets") for i in range(0, len(pairs), 2)}
    assert found == expected
    first = read(report, "overview")["directory"]["targets"]
    assert first == [read(report, f"targets/{p.stem}")[0][0] for p in sorted((report / "data/targets").iterdir())]


def test_contexts_hold_every_token_and_every_member(made_run: Any, report: Path) -> None:
    found = {context: (source, tokens, pairs) for context, source, tokens, pairs in series(report, "contexts")}
    assert {context: tokens for context, (_, tokens, _) in found.items()} == dict(enumerate(made_run.tokens.tolist()))
    members = {(c, p): k for c, p, k in made_run.members.select("context", "position", "cluster").iter_rows()}
    listed = {(c, pairs[i]): pairs[i + 1] for c, (_, _, pairs) in found.items() for i in range(0, len(pairs), 2)}
    assert listed == members


def test_all_members_are_listed_in_order_of_distance(made_run: Any, report: Path) -> None:
    found: dict[int, list[tuple[int, int, int]]] = {}
    for cluster, start, contexts, positions, tokens, distances, *_ in series(report, "members"):
        assert start == len(found.setdefault(cluster, []))
        assert distances == sorted(distances)
        found[cluster] += zip(contexts, positions, tokens, strict=True)
    for (cluster,), own in made_run.members.sort("distance").group_by("cluster"):
        wanted = list(own.select("context", "position", "token").iter_rows())
        assert sorted(found[cluster]) == sorted(wanted)


def test_a_large_cluster_is_listed_in_several_records() -> None:
    group = {name: np.arange(1000) for name in ("row", "context", "position", "token", "source")}
    sources = Sources([f"name {i}" for i in range(1000)], np.zeros(1, np.int32))
    found = pieces(7, group | {"distance": np.linspace(0, 1, 1000)}, sources)
    assert len(found) == 3
    assert [record[:2] for record in found] == [[7, 0], [7, 400], [7, 800]]
    assert [context for record in found for context in record[2]] == list(range(1000))
    assert [record[7][place] for record in found for place in record[6]] == sources.names


def test_matches_against_sets() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(-1, 6, 500).astype(np.int32), rng.integers(-1, 4, 500).astype(np.int32)
    found = {(a, b): (n, j) for a, b, n, j in matches(left, right, 37).iter_rows()}
    for (a, b), (common, jaccard) in found.items():
        mine, theirs = set(np.flatnonzero(left == a)), set(np.flatnonzero(right == b))
        assert common == len(mine & theirs)
        assert jaccard == pytest.approx(len(mine & theirs) / len(mine | theirs))
    assert len(found) == 24
    for a, b, *_ in best(matches(left, right, 37), "cluster").iter_rows():
        assert found[a, b][1] == max(found[a, other][1] for other in range(4))


def test_a_run_beside_itself_renumbered_matches_perfectly(made_run: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for stage in ("corpus", "upsampled", "clusters"):
        shutil.copytree(made_run.folders[stage], other / stage)
    count = int(made_run.labels.max()) + 1
    turned = np.where(made_run.labels >= 0, count - 1 - made_run.labels, -1).astype(np.int32)
    write_array(other / "clusters" / "labels.npy", turned)
    for name in ("members", "clusters"):
        path = other / "clusters" / f"{name}.parquet"
        flipped = pl.read_parquet(path).with_columns((count - 1 - pl.col("cluster")).cast(pl.Int32))
        write_table(path, flipped.sort("cluster"))
    build(made_run.folders, tmp_path / "report", ReportConfig(compare=str(other)))
    overview = read(tmp_path / "report", "overview")
    assert (overview["compared"]["mutual"], overview["compared"]["mean_jaccard"]) == (count, 1.0)
    assert all(o == count - 1 - c and j == 1 and both for c, o, _, j, both in series(tmp_path / "report", "pairs"))
    rows = pl.read_parquet(other / "upsampled" / "rows.parquet")
    for changed in (rows.with_columns(token=pl.when(pl.col("row") == 700).then(0).otherwise("token")), rows[:-1]):
        write_table(other / "upsampled" / "rows.parquet", changed.cast(rows.schema))
        with pytest.raises(UserError, match=r"report\.compare: .*not made from the same contexts"):
            build(made_run.folders, tmp_path / "again", ReportConfig(compare=str(other), block_rows=500))
    shutil.rmtree(other / "upsampled")
    with pytest.raises(UserError, match=r"report\.compare: .*not a run folder"):
        build(made_run.folders, tmp_path / "again", ReportConfig(compare=str(other)))


def test_stability_is_shown_whatever_its_ways(made_run: Any, tmp_path: Path) -> None:
    leakage = tmp_path / "leakage"
    shutil.copytree(made_run.folders["leakage"], leakage)
    assert read_stability(open_inputs(made_run.folders)) is None
    long = pl.DataFrame({"cluster": [0, 0, 1], "way": ["seed", "draws", "seed"], "recovery": [0.9, 0.5, 0.25]})
    write_table(leakage / "stability.parquet", long)
    found = read_stability(open_inputs({**made_run.folders, "leakage": leakage}))
    assert found is not None
    assert (found.of(0), found.of(1), found.of(2)) == ([["seed", 0.9], ["draws", 0.5]], [["seed", 0.25]], None)
    assert (found.ways, [found.first(c) for c in range(3)]) == (["seed", "draws"], [0.9, 0.25, None])
    write_table(leakage / "stability.parquet", pl.DataFrame({"cluster": [3], "seeds": [0.75]}))
    found = read_stability(open_inputs({**made_run.folders, "leakage": leakage}))
    assert found is not None
    assert found.of(3) == [["seeds", 0.75]]


def test_written_labels_are_shown_with_their_author(made_run: Any, tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    write_table(path, pl.DataFrame({"cluster": [1], "text": ["<b>dots"], "by": ["someone"], "detection": [0.8]}))
    build(made_run.folders, tmp_path / "report", ReportConfig(labels=str(path)))
    pages = {page["cluster"]: page["written"] for page in series(tmp_path / "report", "clusters")}
    assert pages[1] == {"text": "<b>dots", "by": "someone", "detection": 0.8}
    assert pages[0] is None
    with pytest.raises(UserError, match=r"report\.labels: .* is missing"):
        build(made_run.folders, tmp_path / "again", ReportConfig(labels=str(tmp_path / "none.parquet")))


def test_the_list_has_the_first_way_of_being_found_again(made_run: Any, tmp_path: Path) -> None:
    """A cluster that was not tried in that way has no number, whatever other ways say."""
    leakage = tmp_path / "leakage"
    shutil.copytree(made_run.folders["leakage"], leakage)
    tried = pl.DataFrame({"cluster": [0, 0, 1], "way": ["seed", "draws", "draws"], "recovery": [0.9, 0.5, 0.25]})
    write_table(leakage / "stability.parquet", tried)
    build({**made_run.folders, "leakage": leakage}, tmp_path / "report", SMALL)
    overview = read(tmp_path / "report", "overview")
    listed = {row[0]: row[15] for row in series(tmp_path / "report", "index")}
    assert overview["stability"] == "seed"
    assert (listed.pop(0), set(listed.values())) == (0.9, {None})
