"""The report at 1,000, 10,000 and 57,000 clusters: to build it, its sizes, and how long a reader waits.

    python -m benchmarks.report --clusters 1000 10000 57000 --folder /tmp/made

Tables are made from a seed, without a model. Times are those of one Chromium without a GPU, reading from the file
system; what is timed is what a reader waits for, from the request to the picture.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.jobs import peak_resident
from benchmarks.report.screenshots import browser_path
from benchmarks.report.tables import STAGES, Made, make_tables

FRAMES = """async () => {
  const { frames } = balmer.map;
  const area = document.querySelector(".area");
  const [start, gaps] = [frames.length, []];
  const keys = ["ArrowLeft", "ArrowUp", "+", "ArrowRight", "ArrowDown", "-"];
  let last = performance.now();
  for (let i = 0; i < 60; i++) {
    area.dispatchEvent(new KeyboardEvent("keydown", { key: keys[i % 6], bubbles: true }));
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    gaps.push(now - last);
    last = now;
  }
  const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const own = frames.slice(start);
  return { drawn: own.length, drawing_ms: middle(own), slowest_ms: Math.max(...own), between_frames_ms: middle(gaps) };
}"""


def build_once(folder: Path, report: Path) -> dict[str, Any]:
    """Build in this process; seconds and peak memory."""
    from cluster.report.build import build
    from cluster.report.config import ReportConfig

    started = time.perf_counter()
    build({stage: folder / stage for stage in STAGES}, report, ReportConfig())
    seconds = {"build_s": round(time.perf_counter() - started, 1), "cpu_s": round(time.process_time(), 1)}
    return {**seconds, "peak_mib": round(peak_resident())}


def sizes(report: Path) -> dict[str, Any]:
    """Bytes of the page before any data, of the first view's data, of the largest chunk, and of everything."""
    files = {path: path.stat().st_size for path in report.rglob("*") if path.is_file()}
    page = [report / "index.html", *(p for p in files if p.parent.name == "assets" and p.name != "plotly.min.js")]
    data = {path: size for path, size in files.items() if "data" in path.relative_to(report).parts}
    return {
        "page_kb": round(sum(files[path] for path in page) / 1e3),
        "first_data_kb": round(files[report / "data" / "overview.js"] / 1e3),
        "largest_chunk_kb": round(max(data.values()) / 1e3),
        "files": len(files),
        "total_mb": round(sum(files.values()) / 1e6),
    }


def waits(report: Path) -> dict[str, Any]:
    """Milliseconds until each view stands, until a search has answered, and between frames of the map."""
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        for name, view, ready in (
            ("first_view_ms", "overview", ".keys"),
            ("map_ms", "map", ".area[data-drawn]"),
            ("list_ms", "clusters", ".space .row"),
            ("cluster_ms", "cluster-7", ".example"),
        ):
            page = browser.new_context(viewport={"width": 1280, "height": 820}).new_page()
            page.goto(f"file://{report.resolve()}/index.html#{view}", wait_until="commit")
            page.wait_for_selector(ready, timeout=120_000)
            found[name] = stood(page)
            if name == "map_ms":
                page.wait_for_timeout(1500)
                found |= {key: round(value, 1) for key, value in page.evaluate(FRAMES).items()}
            if name == "list_ms":
                found["token_search_ms"] = searched(page, "targets", "ko", 60)
                found["context_search_ms"] = searched(page, "contexts", r"st\w+,", 350)
            page.context.close()
        browser.close()
    return found


def stood(page: Any) -> int:
    """Milliseconds from the request to the first picture of the view; the page marks it."""
    for _ in range(12_000):
        marks = page.evaluate("performance.getEntriesByType('mark').map((one) => one.startTime)")
        if marks:
            return round(marks[0])
        page.wait_for_timeout(10)
    raise TimeoutError("the view was not drawn in two minutes")


def searched(page: Any, field: str, query: str, typing_ms: int) -> int:
    """Milliseconds from typing to the answer, less the pause that waits for more typing."""
    page.select_option("#filter-field", field)
    page.wait_for_timeout(1500)
    started = time.perf_counter()
    page.fill("#filter", query)
    page.locator("#matches", has_text=re.compile(" of .* clusters")).wait_for(timeout=300_000)
    taken = round(1000 * (time.perf_counter() - started)) - typing_ms
    page.fill("#filter", "")
    page.locator("#matches", has_text=re.compile(r"^[\d,]+ clusters")).wait_for()
    return taken


def measure(clusters: int, folder: Path, keep: bool) -> dict[str, Any]:
    """One size, built in a process of its own so that its memory is its own."""
    run, report = folder / f"run-{clusters}", folder / f"report-{clusters}"
    if not run.exists():
        make_tables(run, Made(clusters))
    shutil.rmtree(report, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.report", "--build", str(run), str(report)]
    built = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found = {"clusters": clusters, **built, **sizes(report), **waits(report)}
    if not keep:
        shutil.rmtree(run)
        shutil.rmtree(report)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, nargs="+", default=[1000, 10_000, 57_000])
    parser.add_argument("--folder", type=Path, default=Path("report-bench"))
    parser.add_argument("--keep", action="store_true", help="leave tables and reports where they are")
    parser.add_argument("--build", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        print(json.dumps(build_once(*given.build)))
        return
    for clusters in given.clusters:
        print(json.dumps(measure(clusters, given.folder, given.keep)), flush=True)


if __name__ == "__main__":
    main()
