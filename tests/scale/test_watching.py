"""Where a run is: what observers are told, how seldom, and how it ends."""

from __future__ import annotations

import io

import pytest

from scale import watching
from scale.progress import Log, Silent
from scale.watching import Account, Watch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Book:
    """Keeps everything it is told."""

    def __init__(self) -> None:
        self.told_of: list[Account] = []
        self.stages: list[Account] = []

    def told(self, account: Account) -> None:
        self.told_of.append(account)

    def stage_done(self, account: Account) -> None:
        self.stages.append(account)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(watching, "time", found)
    return found


def test_rate_and_time_left_are_those_of_this_process(clock: Clock) -> None:
    """Of 100 items 40 were done before; 10 in 20 s leave 50, less 2 that are set aside, for 96 s."""
    book = Book()
    watch = Watch(Silent(), [book])
    with watch.run(), watch.stage("chi", 4, 9), watch.task("documents", 100, 40) as task:
        task.fail(2)
        for _ in range(10):
            clock.now += 2
            task.advance()
    last = book.told_of[-3]
    assert (last.stage, last.number, last.of, last.task) == ("chi", 4, 9, "documents")
    assert (last.done, last.failed, last.total) == (50, 2, 100)
    assert last.rate == pytest.approx(0.5)
    assert last.seconds_left == pytest.approx(96)
    assert [(one.stage, one.seconds) for one in book.stages] == [("chi", 20.0)]
    assert book.told_of[-1].state == "done"


def test_observers_are_told_seldom_within_a_task_and_at_once_at_its_ends(clock: Clock) -> None:
    book = Book()
    watch = Watch(Silent(), [book])
    with watch.stage("chi", 4, 9), watch.task("documents", 1000) as task:
        before = len(book.told_of)
        for _ in range(1000):
            clock.now += watching.INTERVAL / 100
            task.advance()
        within = len(book.told_of) - before
    assert 8 <= within <= 10
    assert book.told_of[-1].done == 1000


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [(RuntimeError("item 3\nfails"), "failed", "item 3 fails"), (KeyboardInterrupt(), "stopped", "")],
)
def test_how_a_run_ends_is_kept_with_where_it_was(error: BaseException, state: str, reason: str, clock: Clock) -> None:
    book = Book()

    def run() -> None:
        watch = Watch(Silent(), [book])
        with watch.run(), watch.stage("taps", 2, 9), watch.task("contexts", 5) as task:
            task.advance()
            raise error

    with pytest.raises(type(error)):
        run()
    last = book.told_of[-1]
    assert (last.state, last.reason, last.stage, last.task, last.done) == (state, reason, "taps", "contexts", 1)
    assert book.stages == []


def test_what_is_shown_names_the_stage(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scale.progress.time", clock)
    stream = io.StringIO()
    watch = Watch(Log(stream))
    with watch.stage("chi", 4, 9), watch.task("documents", 10) as task:
        clock.now += 20
        task.advance(5)
    assert stream.getvalue() == "  4/9 chi, documents: 5/10, 15 a min, 20 s left\n"


def test_an_observer_that_cannot_write_does_not_end_the_run(clock: Clock) -> None:
    class Full(Book):
        def told(self, account: Account) -> None:
            raise OSError("no space left")

    stream, book = io.StringIO(), Book()
    watch = Watch(Log(stream), [Full(), book])
    with watch.run(), watch.stage("chi", 4, 9), watch.task("documents", 3) as task:
        task.advance(3)
    assert stream.getvalue().count("no longer kept by Full: no space left") == 1
    assert book.told_of[-1].state == "done"


def test_a_run_that_makes_no_stage_leaves_the_account_of_the_last_one(clock: Clock) -> None:
    book = Book()
    with Watch(Silent(), [book]).run():
        pass
    assert book.told_of == []

    def refused() -> None:
        with Watch(Silent(), [book]).run():
            raise RuntimeError("no room for the run file")

    with pytest.raises(RuntimeError, match="no room"):
        refused()
    assert book.told_of == []
