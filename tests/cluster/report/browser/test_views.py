"""The report as a reader uses it, in a real browser, from the file system."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.report.tables import Made, make_tables
from cluster.report.build import build
from cluster.report.config import ReportConfig
from scale.store import write_table

LONG = "x" * 10_000
CLUSTERS = 200


@pytest.fixture(scope="module")
def hostile(run_maker: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A report of a corpus that would act if it could, with written labels that would too."""
    folder = tmp_path_factory.mktemp("hostile")
    mark = "<img src=x onerror=\"document.title='ran'\">"
    script = "<script>document.title='ran'</script>"
    text = f"{mark} {script} \"q\" 'q' ${{1}} </script> שלום 🎉 \x00 \x1b[31m \u202e rev \t{LONG} end\n"
    plain = "def f(self):\n    return self.x\n"
    run = run_maker(folder / "run", texts={"a<b>.txt": text * 24, "plain.py": plain * 60, "c.py": text * 24})
    labels = folder / "labels.parquet"
    write_table(labels, pl.DataFrame({"cluster": [0], "text": [mark], "by": ["<i>a model</i>"], "detection": [0.75]}))
    build(run.folders, folder / "report", ReportConfig(labels=str(labels), nearest=3, random=3, edge=2))
    return run, folder / "report"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    stages = make_tables(folder / "run", Made(CLUSTERS, mean_size=26, vocabulary=3000))
    tried = {"cluster": [3, 3, 5], "way": ["other seeds", "prediction", "other seeds"], "recovery": [0.3, 0.1, 0.9]}
    write_table(stages["leakage"] / "stability.parquet", pl.DataFrame(tried))
    build(stages, folder / "report", ReportConfig(nearest=4, random=4, edge=2, compare=str(folder / "run")))
    return folder / "report"


def saved(page: Any, name: str) -> str:
    """The text of the file that a button gives."""
    with page.expect_download() as download:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(download.value.path()).read_bytes().decode()


def holding(report: Path, text: str) -> set[int]:
    """Clusters with a member whose token holds the text, small letters standing for both."""
    files = {name: sorted((report / "data" / name).iterdir()) for name in ("vocabulary", "targets")}
    read = {name: [json.loads(p.read_text().split(",", 1)[1][:-3]) for p in found] for name, found in files.items()}
    wanted = {token for chunk in read["vocabulary"] for token, own, _ in chunk if text in own.lower()}
    return {cluster for chunk in read["targets"] for token, pairs in chunk if token in wanted for cluster in pairs[::2]}


def test_the_overview_has_its_numbers_and_figures(large: Path, visit: Callable[..., Any]) -> None:
    page = visit(large, "overview")
    assert page.locator(".key dd").first.inner_text() == str(CLUSTERS)
    assert page.locator(".figures .main-svg:visible").count() >= 5
    text = saved(page, "Save the numbers of Explained variance as CSV")
    assert text.splitlines()[0] == "pc,explained,cumulative"
    page.locator(".starters a").first.click()
    page.wait_for_selector(".example")
    assert "#cluster-" in page.url


def test_the_map_is_moved_searched_and_chosen_from(large: Path, visit: Callable[..., Any]) -> None:
    page = visit(large, "map")
    area = page.locator(".area[data-drawn]")
    box = area.bounding_box()
    assert page.locator(".place").count() > 2
    page.mouse.move(box["x"] + 8, box["y"] + 8)
    page.keyboard.down("Shift")
    page.mouse.down()
    for x, y in ((0.99, 0.01), (0.99, 0.93), (0.01, 0.93), (0.01, 0.02)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    chosen = int(page.locator(".picked h2").inner_text().split()[0])
    assert CLUSTERS * 0.8 < chosen <= CLUSTERS
    rows = saved(page, "Save the map's numbers as CSV").splitlines()
    assert (rows[0].split(",")[:3], len(rows)) == (["cluster", "x", "y"], CLUSTERS + 1)
    page.get_by_label("Colour by").select_option("support")
    assert "not tested" in page.locator(".legend").inner_text()
    page.get_by_role("button", name="Show in the list").click()
    page.wait_for_selector(".space .row")
    assert f"{chosen} chosen on the map" in page.locator(".controls").first.inner_text()


def test_the_map_is_used_by_keyboard_alone(large: Path, visit: Callable[..., Any]) -> None:
    page = visit(large, "map")
    before = {place.inner_text() for place in page.locator(".place").all()}
    page.goto(page.url.split("#")[0] + "#map-5")
    page.wait_for_selector("body[data-shown='#map-5'] .area[data-drawn]")
    tip = page.locator(".tip")
    assert tip.inner_text().startswith("Cluster 5")
    page.locator(".area").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(150)
    assert {place.inner_text() for place in page.locator(".place").all()} - before
    page.keyboard.press("j")
    page.wait_for_function("() => !document.querySelector('.tip').textContent.startsWith('Cluster 5 ')")
    tip.locator("mark").wait_for()
    cluster = re.search(r"Cluster (\d+)", tip.inner_text())
    assert cluster is not None
    assert page.locator("[aria-live]").first.inner_text().startswith(f"Cluster {cluster[1]},")
    page.keyboard.press("Enter")
    page.wait_for_selector(".example")
    assert page.url.endswith(f"#cluster-{cluster[1]}")


def test_the_list_draws_little_and_finds_much(large: Path, visit: Callable[..., Any]) -> None:
    page = visit(large, "clusters")
    matches = page.locator("#matches")
    assert page.locator(".grid").get_attribute("aria-rowcount") == str(CLUSTERS + 1)
    assert 5 < page.locator(".space .row").count() < 60
    sizes = [int(cell.inner_text()) for cell in page.locator(".space .size").all()]
    assert sizes == sorted(sizes, reverse=True)
    token = page.locator(".space .row .chip").first.inner_text().strip("·").lower()
    page.locator("#filter").fill(token)
    matches.filter(has_text=" of ").wait_for()
    assert int(matches.inner_text().split()[0]) == len(holding(large, token)) > 1
    page.get_by_label("Where to search").select_option("contexts")
    page.locator("#filter").fill("^(?!x)x")
    matches.filter(has_text="0 of").wait_for()
    page.locator("#filter").fill("(")
    matches.filter(has_text="Not a regular expression").wait_for()
    page.get_by_role("button", name="Clear").click()
    matches.filter(has_text=re.compile(f"^{CLUSTERS} clusters")).wait_for()
    page.get_by_placeholder("size from").fill(str(sizes[3]))
    matches.filter(has_text=" of ").wait_for()
    assert int(matches.inner_text().split()[0]) == sum(size >= sizes[3] for size in sizes)
    assert saved(page, "Save the list as CSV").count("\r\n") == 1 + sum(size >= sizes[3] for size in sizes)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.locator(".space .row:focus").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_selector(".example")


def test_a_cluster_shows_more_on_demand_and_saves_all(hostile: tuple[Any, Path], visit: Callable[..., Any]) -> None:
    run, report = hostile
    page = visit(report, "cluster-1")
    members = run.members.filter(pl.col("cluster") == 1)
    assert page.locator(".example").count() == 8
    page.locator(".more-button").first.click()
    page.wait_for_function("() => document.querySelectorAll('.example').length > 8")
    assert page.locator(".example").count() == min(20, len(members))
    page.locator(".example summary").first.click()
    page.get_by_role("button", name="Whole context").click()
    page.locator(".example .written").first.wait_for()
    lines = saved(page, "Save all members as CSV")
    assert lines.startswith("cluster,context,position,token,text,source,distance")
    found = re.findall(r"^1,(\d+),(\d+),(\d+),", lines, re.MULTILINE)
    assert sorted(tuple(map(int, row)) for row in found) == sorted(
        members.select("context", "position", "token").iter_rows()
    )
    assert f'"size": {len(members)}' in saved(page, "Save the cluster and its members as JSON")
    assert page.locator(".near-clusters a").count() > 2
    assert page.locator("figure .main-svg").count() >= 2


def test_a_token_says_why_its_uses_differ(large: Path, visit: Callable[..., Any]) -> None:
    page = visit(large, "token")
    page.locator("#filter").fill("a")
    page.locator(".suggestion").first.wait_for()
    assert page.locator(".suggestion").count() == 40
    counts = {}
    for path in sorted((large / "data" / "targets").iterdir()):
        for token, pairs in re.findall(r"\[(\d+),\[([\d,]+)\]\]", path.read_text()):
            counts[int(token)] = len(pairs.split(",")) // 2
    token = max(counts, key=lambda one: counts[one])
    page.goto(page.url.split("#")[0] + f"#token-{token}")
    page.locator(".dumbbells").first.wait_for()
    assert page.locator(".token-clusters tbody tr").count() == 12 < counts[token]
    page.get_by_role("button", name="more clusters").click()
    assert page.locator(".token-clusters tbody tr").count() == counts[token]
    first = page.locator(".differ").inner_text()
    page.get_by_label(re.compile("Compare cluster .* as B")).nth(2).check()
    page.wait_for_timeout(300)
    assert page.locator(".differ").inner_text() != first


def test_hostile_text_is_shown_and_does_nothing(hostile: tuple[Any, Path], visit: Callable[..., Any]) -> None:
    run, report = hostile
    token = run.vocabulary.index("script")
    cluster = int(run.members.filter(pl.col("token") == token)["cluster"][0])
    page = visit(report, "map")
    for view in ("map", "clusters", "token", "cluster-0", f"cluster-{cluster}", "map-0", f"token-{token}", "overview"):
        page.goto(page.url.split("#")[0] + f"#{view}")
        page.wait_for_selector(f"body[data-shown='#{view}']")
        if view.startswith("cluster-"):
            page.keyboard.press("e")
            page.locator(".written").first.wait_for()
        assert "ran" not in page.title()
        assert page.locator("main script, main img[onerror], main i:text('a model')").count() == 0
        if view == "token":
            uses = [int(text.replace(",", "")) for text in page.locator(".suggestion .soft").all_inner_texts()]
            assert uses == sorted(uses, reverse=True)
        if view == "cluster-0":
            assert "<img src=x onerror" in page.locator(".written-label").inner_text()
            assert "label by <i>a model</i>" in page.locator(".lead").inner_text()
        if view == f"cluster-{cluster}":
            assert "<mark>script" in page.locator(".contexts").inner_html()
            assert {"⟨00⟩", "⟨202E⟩"} & set(re.findall(r"⟨\w+⟩", page.locator("main").inner_text()))
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200


def test_it_is_read_on_a_phone_in_the_dark_and_on_paper(large: Path, visit: Callable[..., Any]) -> None:
    """Every view keeps to the width of a phone, and every control has a name."""
    nameless = """() => {
      const controls = "button, a[href], input, select, [role=application], [role=img], [role=table]";
      const name = (one) => one.getAttribute("aria-label") || one.textContent.trim();
      const found = [...document.querySelectorAll(controls)];
      return found.filter((one) => !name(one)).map((one) => one.outerHTML.slice(0, 80));
    }"""
    page = visit(large, "cluster-3", color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    for view in ("overview", "map", "clusters", "cluster-3", "token", "compare"):
        page.goto(page.url.split("#")[0] + f"#{view}")
        page.wait_for_selector(f"body[data-shown='#{view}']")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
        assert page.evaluate(nameless) == [], view
        if view == "clusters":
            assert page.get_by_label("size from").is_hidden()
            page.get_by_text("Filters").click()
            assert page.get_by_label("size from").is_visible()
        if view == "cluster-3":
            words = page.locator(".ways").inner_text()
            assert words.startswith("found again in part when the search is run again with other seeds")
            assert "held-out predictions alone 0.10" in words
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Colours: auto. Change").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.emulate_media(media="print")
    assert page.locator("header.bar").is_hidden()


def test_without_its_data_the_page_says_what_to_do(large: Path, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes((large / "index.html").read_bytes())
    (tmp_path / "assets").symlink_to(large / "assets")
    page = browser.new_page()
    page.goto(f"file://{tmp_path}/index.html")
    page.get_by_text("Copy the whole report folder").wait_for()
    page.close()
