"""One browser for all of these tests, and pages that are watched: what they say, and what they ask for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks.report.screenshots import browser_path

SETTLED = "body[data-shown]:not(:has([data-waiting]))"
#: Also as root, in a container with little shared memory, and without a look outside.
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]


@dataclass
class Watch:
    """What pages wrote to the console, and what they asked for."""

    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def over(self, page: Any) -> Any:
        """The page, from now on watched."""
        page.set_default_timeout(60_000)
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        return page

    def check(self) -> None:
        """Nothing went wrong, and nothing left the folder."""
        assert self.said == []
        assert all(url.startswith(("file://", "blob:", "data:")) for url in self.asked)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=browser_path(), args=FLAGS)
        except sync_api.Error as error:
            pytest.skip(f"no browser starts here: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def watch() -> Watch:
    """For tests that share a page."""
    return Watch()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a view. At the end nothing may have gone wrong in it, and nothing may have left the folder."""
    watch, contexts = Watch(), []

    def go(report: Any, view: str, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": 1200, "height": 800}, **options))
        page = watch.over(contexts[-1].new_page())
        page.goto(f"file://{report}/index.html#{view}")
        page.wait_for_selector(SETTLED)
        return page

    yield go
    for context in contexts:
        context.close()
    assert watch.asked
    watch.check()
