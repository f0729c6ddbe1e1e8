"""A report of 57,000 clusters as a reader uses it: what has to stay quick, small and complete whatever the size."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.report.tables import Made, make_tables
from cluster.report.build import build
from cluster.report.config import ReportConfig
from scale.store import Manifest, write_array, write_manifest, write_table

CLUSTERS = 57_000
#: Clusters of the run beside it: each holds as many of these.
JOINED = 57
MADE = Made(CLUSTERS, mean_size=4, smallest=3, vocabulary=5000, pcs=4, layers=1, heads=2)
LEAN = ReportConfig(
    nearest=2, random=1, edge=0, before=5, after=2, top=3, digest=1, digest_before=3, digest_after=1, map_steps=20
)
DRAWN = ".area[data-drawn]"
#: Seconds for anything a reader waits for: several times what a crowded machine of two cores takes.
PATIENCE = 15


@dataclass(frozen=True)
class Report:
    """The folder, and the tables that it was made from."""

    folder: Path
    clusters: pl.DataFrame
    members: pl.DataFrame
    texts: list[str]

    def files(self) -> dict[str, int]:
        return {p.relative_to(self.folder).as_posix(): p.stat().st_size for p in self.folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def report(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Made only where there is a browser to look at it."""
    folder = tmp_path_factory.mktemp("many")
    stages = make_tables(folder / "run", MADE)
    join_clusters(folder / "run", folder / "joined")
    build(stages, folder / "report", ReportConfig(**{**vars(LEAN), "compare": str(folder / "joined")}))
    return Report(
        folder / "report",
        pl.read_parquet(stages["clusters"] / "clusters.parquet"),
        pl.read_parquet(stages["clusters"] / "members.parquet"),
        pl.read_parquet(stages["corpus"] / "vocabulary.parquet").sort("token")["text"].to_list(),
    )


def join_clusters(run: Path, other: Path) -> None:
    """A run over the same rows whose clusters are those of the first, `JOINED` in one."""
    other.mkdir()
    for stage in ("corpus", "upsampled"):
        (other / stage).symlink_to(run / stage)
    members = pl.read_parquet(run / "clusters" / "members.parquet").with_columns(pl.col("cluster") // JOINED)
    labels = pl.DataFrame({"row": pl.int_range(pl.read_parquet(run / "upsampled" / "rows.parquet").height, eager=True)})
    joined = labels.join(members.select("row", "cluster"), on="row", how="left", maintain_order="left")
    sizes = members.group_by("cluster").agg(size=pl.len().cast(pl.Int32)).sort("cluster")
    folder = other / "clusters"
    write_array(folder / "labels.npy", joined["cluster"].fill_null(-1).cast(pl.Int32).to_numpy())
    write_table(folder / "members.parquet", members)
    write_table(folder / "clusters.parquet", sizes.with_columns(conductance=0.5))
    write_manifest(folder, Manifest("clusters", {}, {}, {}))


@pytest.fixture(scope="module")
def open_page(browser: Any, watch: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    yield watch.over(context.new_page())
    context.close()


@pytest.fixture
def page(open_page: Any, watch: Any) -> Iterator[Any]:
    """The one page, which a reader keeps open; each of these tests leaves it where it likes."""
    yield open_page
    watch.check()


def go(page: Any, report: Report, view: str, ready: str) -> float:
    """Seconds until a view stands."""
    started = time.perf_counter()
    page.goto(f"file://{report.folder}/index.html#{view}")
    page.wait_for_selector(f"body[data-shown='#{view}'] {ready}")
    return time.perf_counter() - started


def loaded(watch: Any, series: str) -> int:
    return sum(f"/data/{series}/" in url for url in watch.asked)


def counted(page: Any, text: str | re.Pattern[str]) -> int:
    """The number of clusters that the list says it holds, once it says it in these words."""
    matches = page.locator("#matches")
    matches.filter(has_text=text).wait_for()
    return int(matches.inner_text().split()[0].replace(",", ""))


def test_no_file_is_large_and_the_first_view_needs_few(report: Report, page: Any, watch: Any) -> None:
    files = report.files()
    data = {name: size for name, size in files.items() if name.startswith("data/")}
    assert max(data.values()) <= 1_000_000 < sum(data.values()) / 50
    seconds = go(page, report, "overview", ".key")
    assert page.locator(".key dd").first.inner_text() == f"{CLUSTERS:,}"
    assert seconds < PATIENCE
    first = {url.split("/report/")[1].split("#")[0] for url in watch.asked} - {"assets/plotly.min.js"}
    assert sum(files[name] for name in first) < 3_000_000
    asked_for = {"data/overview.js", "data/figures.js", "data/controls.js"}
    assert {name for name in first if name.startswith("data/")} <= asked_for


def test_a_cluster_stands_by_its_own_address(report: Report, page: Any, watch: Any) -> None:
    page.goto("about:blank")
    assert go(page, report, "cluster-31415", ".example") < PATIENCE
    assert page.locator("h1").inner_text() == "Cluster 31415"
    own = report.members.filter(pl.col("cluster") == 31415)
    assert f"{len(own)} tokens" in page.locator(".lead").inner_text()
    marked = page.locator(".example mark").first.inner_text().replace("·", " ").replace("⏎", "\n")
    assert marked == report.texts[own.sort("distance", "row")["token"][0]]
    assert loaded(watch, "clusters") == 1
    page.keyboard.press("e")
    page.locator(".written").first.wait_for()
    page.keyboard.press("j")
    page.wait_for_url(re.compile(r"#cluster-(?!31415)"))


def test_the_list_is_sorted_and_filtered_whole(report: Report, page: Any) -> None:
    assert go(page, report, "clusters", ".space .row") < PATIENCE
    assert page.locator(".grid").get_attribute("aria-rowcount") == str(CLUSTERS + 1)
    largest = report.clusters["size"].sort(descending=True)
    shown = [int(cell.replace(",", "")) for cell in page.locator(".space .size").all_inner_texts()]
    assert shown == largest[: len(shown)].to_list()
    assert 5 < len(shown) < 60
    page.locator(".rows").evaluate("(rows) => { rows.scrollTop = rows.scrollHeight; }")
    page.wait_for_selector(f".space [aria-rowindex='{CLUSTERS + 1}']")
    assert page.locator(".space .row").count() < 60
    page.get_by_role("button", name="Conductance").click()
    page.wait_for_selector("[aria-sort=ascending]")
    tightest = report.clusters.sort("conductance", "cluster")["cluster"]
    assert page.locator(".space .row .id").first.inner_text() == str(tightest[0])
    page.get_by_placeholder("size from").fill("9")
    assert counted(page, " of ") == report.clusters.filter(pl.col("size") >= 9).height > 100
    page.get_by_role("button", name="Clear").click()
    assert counted(page, re.compile("^57,000 clusters")) == CLUSTERS


def test_the_list_is_searched_by_token_and_by_expression(report: Report, page: Any) -> None:
    go(page, report, "clusters", ".space .row")
    started = time.perf_counter()
    page.locator("#filter").fill("tro")
    found = counted(page, " of ")
    tokens = [token for token, text in enumerate(report.texts) if "tro" in text]
    assert found == report.members.filter(pl.col("token").is_in(tokens))["cluster"].n_unique() > 10
    page.get_by_label("Where to search").select_option("contexts")
    page.locator("#filter").fill(r"^\w+ tro")
    expected = sum(bool(re.search(r"^\w+ tro", text)) for text in digest(report))
    page.locator("#matches").filter(has_text=f"{expected:,} of").wait_for()
    assert 10 < expected != found
    assert time.perf_counter() - started < 2 * PATIENCE
    page.get_by_role("button", name="Clear").click()


def digest(report: Report) -> Iterator[str]:
    """The one short context of every cluster that the search reads."""
    for path in sorted((report.folder / "data" / "digest").iterdir()):
        for _, ((_, *tokens),) in json.loads(path.read_text().split(",", 1)[1][:-3]):
            yield "".join(report.texts[token] for token in tokens)


def test_the_map_moves_and_names_three_levels(report: Report, page: Any) -> None:
    assert go(page, report, "map", DRAWN) < PATIENCE
    area = page.locator(".area")
    area.focus()
    seen = set()
    for _ in range(16):
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        seen |= set(page.locator(".names > *").evaluate_all("(all) => all.map((one) => one.classList[1])"))
        page.keyboard.press("+")
        page.keyboard.press("ArrowLeft")
    assert seen == {"region", "neighbourhood", "cluster"}
    frames = sorted(page.evaluate("() => balmer.map.frames"))
    assert len(frames) >= 16
    assert frames[len(frames) // 2] < 500
    page.keyboard.press("0")


def test_the_map_is_pointed_at_dragged_and_chosen_from(report: Report, page: Any) -> None:
    go(page, report, "map-777", DRAWN)
    box = page.locator(".area").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = page.locator(".tip")
    assert tip.inner_text().startswith("Cluster 777\n")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 90, middle[1] + 60, steps=3)
    page.mouse.up()
    page.mouse.move(middle[0] + 5, middle[1] + 5)
    page.mouse.move(middle[0] + 90, middle[1] + 60)
    page.wait_for_function("() => document.querySelector('.tip').textContent.startsWith('Cluster 777')")
    tip.locator("mark").wait_for()
    page.get_by_role("button", name="All", exact=True).click()
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for x, y in ((0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.up()
    page.keyboard.up("Shift")
    chosen = int(page.locator(".picked h2").inner_text().split()[0].replace(",", ""))
    assert chosen > 0.8 * CLUSTERS
    page.get_by_role("button", name="Let go").click()
    for colours in ("conductance", "component"):
        page.get_by_label("Colour by").select_option(colours)
        page.locator(".legend li").nth(2).wait_for()


def test_a_token_falls_in_the_clusters_that_have_it(report: Report, page: Any) -> None:
    uses = report.members.group_by("token").agg(pl.col("cluster").n_unique()).sort("cluster", "token", descending=True)
    token, clusters = uses.row(0)
    assert go(page, report, f"token-{token}", ".dumbbells") < PATIENCE
    assert f"{clusters:,} clusters" in page.locator("main p").first.inner_text()
    page.get_by_label(re.compile("Compare cluster .* as B")).nth(3).check()
    page.locator(".side").nth(1).locator("a", has_text="cluster").wait_for()


def test_runs_are_compared_and_the_views_reached_by_keyboard(report: Report, page: Any) -> None:
    assert go(page, report, "compare", ".space .row") < PATIENCE
    assert f"{CLUSTERS // JOINED:,} pairs are each other's best match" in page.locator("main").inner_text()
    for key, view in (("g", "overview"), ("m", "map"), ("l", "clusters"), ("t", "token")):
        page.keyboard.press("Escape")
        page.keyboard.press(key)
        page.wait_for_selector(f"body[data-shown='#{view}']")
    page.keyboard.press("Escape")
    page.keyboard.press("l")
    page.wait_for_selector("body[data-shown='#clusters'] .space .row")
    page.keyboard.press("/")
    page.keyboard.type("#4242")
    assert counted(page, " of ") == 1
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.locator(".space .row:focus").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-shown='#cluster-4242']")
