import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cluster.report.build import build
from cluster.report.config import ReportConfig
from cluster.report.inputs import Inputs, open_inputs
from cluster.report.overview import describe_components
from scale.errors import UserError
from scale.store import read_json, write_json, write_table

CONFIG = ReportConfig(nearest=3, random=4, edge=2, before=6, after=3, top=5, chunk_bytes=30_000)


def read(path: Path) -> Any:
    text = path.read_text("ascii")
    name, value = re.fullmatch(r"balmer\.register\((\"[^\"]*\"),(.*)\);\n", text, re.DOTALL).groups()
    assert (
        json.loads(name)
        == path.relative_to(path.parents[len(json.loads(name).split("/")) - 1]).with_suffix("").as_posix()
    )
    return json.loads(value)


def read_series(report: Path, series: str) -> list[Any]:
    return [record for path in sorted((report / "data" / series).iterdir()) for record in read(path)]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def report(made_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    build(made_run.folders, folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def pages(report: Path) -> dict[int, Any]:
    return {page["cluster"]: page for page in read_series(report, "clusters")}


def test_every_cluster_has_a_page_and_a_row(made_run: Any, report: Path, pages: dict[int, Any]) -> None:
    sizes = dict(made_run.members.group_by("cluster").len().iter_rows())
    assert {cluster: page["size"] for cluster, page in pages.items()} == sizes
    assert {row[0]: row[1] for row in read_series(report, "index")} == sizes
    assert len(sizes) > 20


def test_the_directory_finds_the_file_of_every_record(report: Path) -> None:
    directory = read(report / "data" / "overview.js")["directory"]
    for series, key in (("clusters", lambda record: record["cluster"]), ("index", lambda record: record[0])):
        first = [key(read(path)[0]) for path in sorted((report / "data" / series).iterdir())]
        assert directory[series] == first
        assert first == sorted(first)
    assert len(directory["clusters"]) > 3


def test_no_data_file_exceeds_the_limit_or_holds_markup(report: Path) -> None:
    files = sorted((report / "data").rglob("*.js"))
    assert files
    for path in files:
        content = path.read_bytes()
        assert len(content) <= CONFIG.chunk_bytes
        assert content.isascii()
        assert not set(b"<>&\x00") & set(content)


def test_hostile_text_survives_as_text(made_run: Any, report: Path) -> None:
    entries = read_series(report, "vocabulary")
    vocabulary = {token: text for token, text, _ in entries}
    assert {token: uses for token, _, uses in entries if uses} == Counter(made_run.rows["token"].to_list())
    assert [vocabulary[i] for i in range(len(vocabulary))] == made_run.vocabulary
    assert {" 🎉", " \x00", "\u2028", " \u202e", "<"} <= set(vocabulary.values())


def test_contexts_are_those_of_the_token_table(made_run: Any, pages: dict[int, Any]) -> None:
    members = made_run.members
    places = {(c, p): k for c, p, k in members.select("context", "position", "cluster").iter_rows()}
    names = dict(made_run.documents.select("document", "name").iter_rows())
    documents = dict(members.select("context", "document").unique().iter_rows())
    for page in pages.values():
        for group in ("nearest", "random", "edge"):
            for _, context, position, source, marked, tokens, neighbours in page["shown"][group]:
                assert places[context, position] == page["cluster"]
                start = position - marked
                assert tokens == made_run.tokens[context, start : start + len(tokens)].tolist()
                assert page["shown"]["names"][source] == names[documents[context]]
                pairs = dict(zip(neighbours[::2], neighbours[1::2], strict=True))
                for i in range(len(tokens)):
                    assert pairs.get(i) == (None if i == marked else places.get((context, start + i)))


def test_nearest_and_edge_are_the_ends_of_the_distances(made_run: Any, pages: dict[int, Any]) -> None:
    for cluster, page in pages.items():
        distances = np.sort(made_run.members.filter(pl.col("cluster") == cluster)["distance"].to_numpy())
        shown = {group: [example[0] for example in page["shown"][group]] for group in ("nearest", "random", "edge")}
        assert shown["nearest"] == pytest.approx(distances[:3], rel=1e-3)
        assert shown["edge"] == pytest.approx(distances[:-3:-1], rel=1e-3)
        assert len(shown["random"]) == 4
        keys = [tuple(example[1:3]) for group in shown for example in page["shown"][group]]
        assert len(set(keys)) == len(keys) == 9


def test_shared_items_and_log_odds_against_plain_counting(made_run: Any, pages: dict[int, Any]) -> None:
    names = dict(made_run.documents.select("document", "name").iter_rows())

    def values(frame: pl.DataFrame) -> dict[str, list[Any]]:
        rows = list(frame.select("token", "context", "position", "document").iter_rows())
        before = [int(made_run.tokens[context, position - 1]) for _, context, position, _ in rows]
        return {"targets": [row[0] for row in rows], "preceding": before, "sources": [names[row[3]] for row in rows]}

    corpus = {kind: Counter(found) for kind, found in values(made_run.rows).items()}
    total = len(made_run.rows)
    for cluster, page in pages.items():
        for kind, found in values(made_run.members.filter(pl.col("cluster") == cluster)).items():
            counted, n = Counter(found), len(found)
            table = page[kind]
            assert table["distinct"] == len(counted)
            assert table["counts"] == sorted(counted.values(), reverse=True)[:5]
            for item, count, odds in zip(table["items"], table["counts"], table["log_odds"], strict=True):
                assert counted[item] == count
                rest = corpus[kind][item] - count
                expected = math.log((count + 0.5) / (n - count + 0.5) * (total - n - rest + 0.5) / (rest + 0.5))
                assert odds == pytest.approx(expected, rel=6e-3, abs=1e-3)


def test_profiles_follow_the_order_of_the_components(made_run: Any, report: Path, pages: dict[int, Any]) -> None:
    names = read(report / "data" / "overview.js")["components"]["names"]
    table = pl.read_parquet(made_run.folders["leakage"] / "profiles.parquet")
    for cluster in (0, max(pages)):
        means = dict(table.filter(pl.col("cluster") == cluster).select("component", "mean").iter_rows())
        assert pages[cluster]["profile"] == pytest.approx([means[name] for name in names], rel=6e-3)


@pytest.mark.parametrize(
    ("estimator", "column"), [("covariance", "reliability_covariance"), ("two-chain", "reliability")]
)
def test_the_reliability_shown_is_that_of_what_was_predicted(made_run: Any, estimator: str, column: str) -> None:
    facts = open_inputs(made_run.folders).facts | {"aux": {"estimator": estimator}}
    found = describe_components(Inputs(made_run.folders, facts))
    table = pl.read_parquet(made_run.folders["chi"] / "components.parquet")
    assert found is not None
    assert found["reliability"] == pytest.approx([table[column].min(), table[column].median(), table[column].max()])


def test_support_is_counted_over_the_clusters_that_were_tested(
    made_run: Any, report: Path, pages: dict[int, Any]
) -> None:
    support = read(report / "data" / "overview.js")["support"]
    table = pl.read_parquet(made_run.folders["leakage"] / "support.parquet")
    passed = table.filter((pl.col("p_corrected") < 0.05) & (pl.col("effect") > 0))["cluster"].to_list()
    assert (support["tested"], support["supported"]) == (len(table), len(passed))
    assert support["untested"] == len(pages) - len(table) > 0
    assert [cluster for cluster, page in pages.items() if page["support"] and page["support"]["supported"]] == passed
    assert 0 < len(passed) < table.filter(pl.col("p_corrected") < 0.05).height
    untested = [cluster for cluster, page in pages.items() if page["support"] is None]
    assert untested == [cluster for cluster in pages if cluster % 7 == 6]


def test_the_headline_says_what_was_found(made_run: Any, tmp_path: Path) -> None:
    facts = build(made_run.folders, tmp_path, CONFIG)
    lines = facts["headline"]
    assert 5 <= len(lines) <= 6
    assert lines[0].startswith(f"{facts['clusters']} clusters found, holding ")
    assert "about 0.4" in lines[0]
    assert "0.585 over 12 PCs, 76% of the noise ceiling" in lines[2]
    assert "Leakage of activations" in lines[3]
    assert all(line.isprintable() for line in lines)


def test_the_same_inputs_give_the_same_bytes_whatever_the_block(made_run: Any, report: Path, tmp_path: Path) -> None:
    build(made_run.folders, tmp_path / "again", CONFIG)
    build(made_run.folders, tmp_path / "blocks", ReportConfig(**{**vars(CONFIG), "block_rows": 97}))
    build(made_run.folders, tmp_path / "seed", ReportConfig(**{**vars(CONFIG), "seed": 1}))
    assert contents(tmp_path / "again") == contents(report) == contents(tmp_path / "blocks")
    assert contents(tmp_path / "seed") != contents(report)


def test_what_was_not_measured_is_said_to_be_missing(made_run: Any, tmp_path: Path) -> None:
    kept = {stage: folder for stage, folder in made_run.folders.items() if stage in ("corpus", "upsampled", "clusters")}
    facts = build(kept, tmp_path, CONFIG)
    overview = read(tmp_path / "data" / "overview.js")
    assert facts["leakage"] == "missing"
    assert overview["accuracy"] is overview["components"] is None
    assert (overview["support"]["tested"], overview["support"]["share"]) == (0, None)
    assert any("accuracy was not measured" in line for line in facts["headline"])
    assert any("No cluster was tested" in line for line in facts["headline"])
    assert all(page["profile"] is None and page["support"] is None for page in read_series(tmp_path, "clusters"))
    figures = read(tmp_path / "data" / "figures.js")
    assert figures["accuracy"] is figures["leakage"] is None


def test_nan_is_missing_not_a_number(made_run: Any, tmp_path: Path) -> None:
    aux = tmp_path / "aux"
    shutil.copytree(made_run.folders["aux"], aux)
    table = pl.read_parquet(aux / "accuracy.parquet").with_columns(ceiling=pl.lit(float("nan")))
    write_table(aux / "accuracy.parquet", table)
    facts = build({**made_run.folders, "aux": aux}, tmp_path / "report", CONFIG)
    assert any("with no noise ceiling measured" in line for line in facts["headline"])
    assert set(read(tmp_path / "report" / "data" / "figures.js")["accuracy"]["ceiling"]) == {None}


def test_a_run_without_clusters_still_has_a_report(run_maker: Callable[..., Any], tmp_path: Path) -> None:
    run = run_maker(tmp_path / "run", limit=0)
    facts = build(run.folders, tmp_path / "report", CONFIG)
    assert facts["clusters"] == 0
    assert facts["headline"][0].startswith("0 clusters found")
    assert read(tmp_path / "report" / "data" / "overview.js")["directory"]["clusters"] == []


def test_a_missing_stage_or_table_is_named(made_run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="clusters is not published"):
        build({k: v for k, v in made_run.folders.items() if k != "clusters"}, tmp_path, CONFIG)
    broken = tmp_path / "clusters"
    shutil.copytree(made_run.folders["clusters"], broken)
    (broken / "members.parquet").unlink()
    with pytest.raises(UserError, match=r"members\.parquet: missing"):
        build({**made_run.folders, "clusters": broken}, tmp_path / "report", CONFIG)


def test_rows_that_do_not_match_the_token_table_are_noticed(made_run: Any, tmp_path: Path) -> None:
    upsampled = tmp_path / "upsampled"
    shutil.copytree(made_run.folders["upsampled"], upsampled)
    write_table(upsampled / "rows.parquet", made_run.rows.filter(pl.col("row") != 5))
    with pytest.raises(AssertionError, match="every predicted position"):
        build({**made_run.folders, "upsampled": upsampled}, tmp_path / "report", CONFIG)


def test_an_unknown_null_is_not_zero(made_run: Any, tmp_path: Path) -> None:
    clusters = tmp_path / "clusters"
    shutil.copytree(made_run.folders["clusters"], clusters)
    manifest = read_json(clusters / "manifest.json")
    manifest["facts"]["expected_false"] = None
    write_json(clusters / "manifest.json", manifest)
    facts = build({**made_run.folders, "clusters": clusters}, tmp_path / "report", CONFIG)
    assert "was not measured" in facts["headline"][0]


def test_the_page_asks_for_nothing_outside_its_folder(report: Path) -> None:
    page = (report / "index.html").read_text("utf-8")
    assert "default-src 'none'" in page
    assert "unsafe-eval" not in page
    assert re.search(r"script-src[^;]*unsafe-inline", page) is None
    local = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert local
    assert all((report / name).is_file() for name in local)
    for path in sorted((report / "assets").glob("*")):
        if path.name not in ("plotly.min.js", "icon.svg"):
            text = path.read_text("utf-8")
            assert "://" not in text
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|fetch\(", text)
