"""The report as a browser shows it, where one is installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster.report.build import build
from cluster.report.config import ReportConfig

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH")


@pytest.fixture(scope="module")
def report(made_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser_report")
    build(made_run.folders, folder, ReportConfig())
    return folder


def shown(report: Path, view: str, profile: Path) -> str:
    """The page's elements once its scripts have run; nothing may have been refused or have failed."""
    assert BROWSER is not None
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [
        BROWSER, "--headless=new", "--disable-gpu", *sandbox, f"--user-data-dir={profile}", "--enable-logging=stderr",
        "--virtual-time-budget=20000", "--dump-dom", f"file://{report}/index.html#{view}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == []
    return done.stdout


def test_the_overview_is_drawn(report: Path, tmp_path: Path) -> None:
    page = shown(report, "overview", tmp_path)
    assert "Clusters of made/model" in page
    assert "Leakage is visible" in page
    assert page.count('class="main-svg"') >= 4


def test_the_list_draws_only_what_is_looked_at(report: Path, tmp_path: Path) -> None:
    page = shown(report, "clusters", tmp_path)
    assert 'aria-rowcount="' in page
    assert 5 < page.count('class="row" role="row"') < 60


def test_hostile_text_is_shown_and_does_nothing(made_run: Any, report: Path, tmp_path: Path) -> None:
    token = made_run.vocabulary.index("script")
    members = made_run.members
    cluster = int(members["cluster"][members["token"].to_list().index(token)])
    page = shown(report, f"cluster-{cluster}", tmp_path)
    main = page[page.index("<main") : page.index("</main>")]
    assert "<mark>script</mark>" in main
    assert "<script" not in main
    assert "<img" not in main.replace("<image", "")
    assert {"alert", "⟨2028⟩"} <= set(re.findall(r"alert|⟨2028⟩", main))
