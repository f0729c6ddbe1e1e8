"""Controls in the report: what is planted beside the run is on the page, and comes later at the price of one file."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks.report.screenshots import browser_path
from cluster.report.build import build
from cluster.report.config import ReportConfig
from cluster.report.controls import CONTROLS, renew
from eval.beside import Outcome, rows, supported_more_often
from scale.store import Manifest, write_manifest, write_table

CONFIG = ReportConfig(nearest=3, random=3, edge=2)
HOSTILE = "<img src=x onerror=\"document.title='ran'\">"


def outcome(name: str, supported: int, **changes: Any) -> Outcome:
    settings = {"clusters": 30, "tested": 25, "median_size": 41.5, "largest_size": 310.0, "clustered_share": 0.25,
                "overlap": 0.125, "told_apart": 0.5}  # fmt: skip
    return Outcome(name=name, supported=supported, **(settings | changes))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A control that does as well as the run, one that does worse, and one that could not be tested."""
    run = outcome("run", 20, overlap=1.0)
    found = [outcome("gaussian", 21), outcome("permuted", 2, clusters=10), outcome("activations", 0, tested=0)]
    judged = [Outcome(**(vars(own) | {"p": supported_more_often(run, own)})) for own in found]
    table = pl.DataFrame(rows(run, judged), infer_schema_length=None).fill_nan(None)
    hostile = pl.when(pl.col("name") == "activations").then(pl.concat_str(pl.col("sentence"), pl.lit(HOSTILE)))
    folder = tmp_path_factory.mktemp("planted") / CONTROLS
    write_table(folder / "controls.parquet", table.with_columns(sentence=hostile.otherwise(pl.col("sentence"))))
    write_manifest(folder, Manifest(CONTROLS, {}, {}, {}))
    return folder


@pytest.fixture(scope="module")
def reports(made_run: Any, planted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The report without controls and with them."""
    folder = tmp_path_factory.mktemp("reports")
    build(made_run.folders, folder / "without", CONFIG)
    build(made_run.folders | {CONTROLS: planted}, folder / "with", CONFIG)
    return folder / "without", folder / "with"


def data(report: Path) -> Any:
    return json.loads(re.fullmatch(r'balmer\.register\("controls",(.*)\);\n', script(report).read_text("ascii"))[1])


def script(report: Path) -> Path:
    return report / "data" / "controls.js"


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_page_has_the_figures_of_the_table(reports: tuple[Path, Path]) -> None:
    without, beside = reports
    assert data(without) is None
    found = {row["name"]: row for row in data(beside)}
    assert [row["verdict"] for row in found.values()] == [None, "as well", "worse", "untested"]
    permuted = found["permuted"]
    figures = {"clusters": 10, "median_size": 41.5, "largest_size": 310.0, "clustered_share": 0.25, "overlap": 0.125,
               "told_apart": 0.5, "supported": 2, "tested": 25}  # fmt: skip
    assert {name: permuted[name] for name in figures} == figures
    assert permuted["p"] == pytest.approx(supported_more_often(outcome("run", 20), outcome("permuted", 2)), rel=1e-2)
    assert found["run"]["p"] is None
    assert b"<" not in script(beside).read_bytes()


def test_controls_that_come_later_take_one_file(
    made_run: Any, planted: Path, reports: tuple[Path, Path], tmp_path: Path
) -> None:
    without, beside = reports
    before = contents(without)
    facts = renew(
        without, {"clusters": 3}, made_run.folders | {CONTROLS: planted}, tmp_path / "new", CONFIG.chunk_bytes
    )
    assert contents(tmp_path / "new") == contents(beside)
    assert contents(without) == before
    new = {p.relative_to(tmp_path / "new"): p for p in (tmp_path / "new").rglob("*") if p.is_file()}
    assert [str(name) for name, p in new.items() if not p.samefile(without / name)] == ["data/controls.js"]
    assert facts["clusters"] == 3
    assert [line.split(":")[0] for line in facts[CONTROLS]] == [
        "Control gaussian", "Control permuted", "Control activations",
    ]  # fmt: skip
    taken_away = renew(tmp_path / "new", facts, made_run.folders, tmp_path / "old", CONFIG.chunk_bytes)
    assert taken_away[CONTROLS] == []
    assert contents(tmp_path / "old") == before


def test_in_a_browser_a_control_that_does_as_well_is_said_so(reports: tuple[Path, Path]) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=browser_path(), args=flags)
        except sync_api.Error as error:
            pytest.skip(f"no browser starts here: {str(error).splitlines()[0]}")
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        without, beside = (f"file://{report}/index.html#overview" for report in reports)
        page.goto(without)
        page.wait_for_selector("body[data-shown]")
        section = page.get_by_role("region", name="Controls").first
        assert section.inner_text().split("\n")[-1].startswith("None beside this run. balmer run RUN --control")
        assert section.locator("table").count() == 0

        page.goto(beside)
        page.wait_for_selector("tr.as-well")
        marked = page.locator(".as-well").all_inner_texts()
        assert len(marked) == 2
        assert marked[0].split("\t")[0] == "gaussian"
        assert marked[0].split("\t")[-2] == "21 of 25"
        assert "By support it does as well as the run" in marked[1]
        assert page.locator("tbody th[scope=row]").all_inner_texts()[-4:] == [
            "This run", "gaussian", "permuted", "activations",
        ]  # fmt: skip
        assert HOSTILE in page.locator("section.beside dd").last.inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.title() != "ran"
        page.get_by_role("button", name="Save the controls as CSV").focus()
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert Path(download.value.path()).read_text().count("\n") == 5
        browser.close()
    assert said == []
