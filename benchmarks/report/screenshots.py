"""Pictures of every view of a report, light and dark, as small WebP files.

    python -m benchmarks.report.screenshots runs/demo/report docs/images --cluster 3

Needs Playwright and a Chromium; the browser on PATH is taken if there is one, else Playwright's own.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Any

WIDE: Any = {"width": 1280, "height": 820}
PHONE: Any = {"width": 390, "height": 800}
SETTLED = "body[data-shown]:not(:has([data-waiting]))"


def browser_path() -> str | None:
    """The Chromium on PATH, or None for Playwright's own."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def views(cluster: int, token: int | None) -> dict[str, str]:
    """Name of the picture and address of the view."""
    found = {"overview": "overview", "map": "map", "list": "clusters", "cluster": f"cluster-{cluster}"}
    return found | ({} if token is None else {"token": f"token-{token}"})


def save(picture: bytes, path: Path, quality: int) -> None:
    """A PNG as WebP; text stays sharp at this quality."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").save(path, "WEBP", quality=quality, method=6)


def look(page: Any, report: Path, view: str) -> None:
    """Open a view and wait until all of it is drawn."""
    page.goto(f"file://{report.resolve()}/index.html#{view}")
    page.reload()
    page.wait_for_selector(SETTLED, timeout=60_000)
    page.wait_for_timeout(900)


def take(report: Path, out: Path, cluster: int, token: int | None, quality: int) -> list[Path]:
    """Every view in both colours, and the cluster on a phone."""
    from playwright.sync_api import ViewportSize, sync_playwright

    taken = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        for colours in ("light", "dark"):
            for name, view in (*views(cluster, token).items(), ("phone", f"cluster-{cluster}")):
                viewport = PHONE if name == "phone" else WIDE
                context = browser.new_context(
                    viewport=ViewportSize(width=viewport["width"], height=viewport["height"]),
                    device_scale_factor=1.5,
                    color_scheme=colours,
                )
                page = context.new_page()
                look(page, report, view)
                taken.append(out / f"report-{name}-{colours}.webp")
                save(page.screenshot(), taken[-1], quality)
                context.close()
        browser.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="folder of the report")
    parser.add_argument("out", type=Path, help="where the pictures go")
    parser.add_argument("--cluster", type=int, default=0)
    parser.add_argument("--token", type=int)
    parser.add_argument("--quality", type=int, default=62)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for path in take(given.report, given.out, given.cluster, given.token, given.quality):
        print(f"{path.stat().st_size:8,} {path}")


if __name__ == "__main__":
    main()
