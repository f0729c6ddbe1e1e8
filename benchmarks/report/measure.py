"""The report at 1,000, 10,000 and 57,000 clusters: to build it, its sizes, and how long a reader waits.

    python -m benchmarks.report --clusters 1000 10000 57000 --folder /tmp/made
    python -m benchmarks.report --clusters 57000 --mean-size 20 60 180 --smallest 10 --build-only

Tables are made from a seed, without a model. Memory is that of the building process: at most at once, and what of it
was not pages of mapped files, which the system takes back when it wants to. Times are those of one Chromium without a
GPU, reading from the file system; what is timed is what a reader waits for, from the request to the picture.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.jobs import peak_resident
from benchmarks.report.screenshots import browser_path
from benchmarks.report.tables import STAGES, Made, make_tables
from scale.store import read_manifest

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


class Anonymous(threading.Thread):
    """Looks, ten times a second, at how much of this process's memory is its own and no page of a file (on Linux)."""

    STATUS = Path("/proc/self/status")

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0
        self._done = threading.Event()

    def run(self) -> None:
        while self.STATUS.exists() and not self._done.wait(0.1):
            self.most = max(self.most, int(re.findall(r"RssAnon:\s+(\d+)", self.STATUS.read_text())[0]) / 1024)

    def stop(self) -> int | None:
        """MiB at most, or None where it could not be seen."""
        self._done.set()
        self.join()
        return round(self.most) or None


def build_once(folder: Path, report: Path, steps: int) -> dict[str, Any]:
    """Build in this process; seconds and peak memory."""
    from cluster.report.build import build
    from cluster.report.config import ReportConfig

    watch = Anonymous()
    watch.start()
    started = time.perf_counter()
    build({stage: folder / stage for stage in STAGES}, report, ReportConfig(map_steps=steps))
    seconds = {"build_s": round(time.perf_counter() - started, 1), "cpu_s": round(time.process_time(), 1)}
    return {**seconds, "peak_mib": round(peak_resident()), "own_mib": watch.stop()}


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


def measure(made: Made, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One size, made and built in processes of their own so that the memory of each is its own."""
    run, report = (folder / f"{name}-{made.clusters}-{made.mean_size}" for name in ("run", "report"))
    if not run.exists():
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(make_tables, run, made).result()
    shutil.rmtree(report, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.report", "--map-steps", str(given.map_steps)]
    called = subprocess.run([*command, "--build", str(run), str(report)], capture_output=True, text=True, check=True)
    members = read_manifest(run / "clusters").facts["members"]
    found = {"clusters": made.clusters, "members": members, **json.loads(called.stdout), **sizes(report)}
    if not given.build_only:
        found |= waits(report)
    if not given.keep:
        shutil.rmtree(run)
        shutil.rmtree(report)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, nargs="+", default=[1000, 10_000, 57_000])
    parser.add_argument("--mean-size", type=int, nargs="+", default=[50], help="members of a cluster")
    parser.add_argument("--smallest", type=int, default=20, help="members of the smallest cluster")
    parser.add_argument("--map-steps", type=int, default=500)
    parser.add_argument("--build-only", action="store_true", help="open no browser")
    parser.add_argument("--folder", type=Path, default=Path("report-bench"))
    parser.add_argument("--keep", action="store_true", help="leave tables and reports where they are")
    parser.add_argument("--build", type=Path, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        print(json.dumps(build_once(given.build[0], given.build[1], given.map_steps)))
        return
    for clusters, size in product(given.clusters, given.mean_size):
        print(json.dumps(measure(Made(clusters, size, given.smallest), given.folder, given)), flush=True)


if __name__ == "__main__":
    main()
