"""Bars on a terminal, lines in a log, silence when quiet."""

import io

import pytest

from scale import progress
from scale.progress import Bars, Log, Silent, for_stream


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_kind_suits_the_stream() -> None:
    assert isinstance(for_stream(quiet=True, stream=Terminal()), Silent)
    assert isinstance(for_stream(quiet=False, stream=io.StringIO()), Log)
    assert isinstance(for_stream(quiet=False, stream=Terminal()), Bars)


def test_a_log_says_how_far_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 20.0, 21.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    with Log(stream).task("chains", total=10, done=2) as task:
        for _ in range(4):
            task.advance()
    # 2 items in 20 s: 6 left take 60; then 4 in 40 s: 4 left take 40.
    assert stream.getvalue().splitlines() == [
        "  chains: 4/10, 6 a min, 60 s left",
        "  chains: 6/10, 6 a min, 40 s left",
    ]


def test_what_is_set_aside_is_said_and_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    with Log(stream).task("chains", total=10) as task:
        task.fail(3)
        task.advance(2)
    assert stream.getvalue().splitlines() == [
        "  chains: 3 of 10 set aside",
        "  chains: 2/10, 6 a min, 50 s left, 3 set aside",
    ]
    terminal = Terminal()
    with Bars(terminal).task("chains", total=10) as task:
        task.fail(3)
    assert "3 set aside" in terminal.getvalue()


@pytest.mark.parametrize(("rate", "said"), [(12.34, "12.3 a s"), (0.5, "30 a min"), (0.001, "3.6 an h")])
def test_a_rate_is_said_with_a_number_above_one(rate: float, said: str) -> None:
    assert progress.pace(rate) == said


def test_silence_is_silent_and_a_terminal_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with Silent().task("chains", total=1) as task:
        task.advance()
    Silent().say("nothing")
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    bars = Bars(terminal)
    bars.say("a line with [brackets] in it")
    with bars.task("chains", total=1) as task:
        task.advance()
    assert "a line with [brackets] in it" in terminal.getvalue()
