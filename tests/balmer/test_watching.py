"""What `balmer status` says of a run that is at work, or was; and live metrics."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from aux.config import AuxConfig
from balmer import watching
from balmer.cli import main
from balmer.folder import PROGRESS, RunFolder
from balmer.watching import Keeper, Metrics, said_of
from runs import write_run_file
from scale.progress import Silent
from scale.watching import Watch

HEARD: dict[str, Any] = {
    "state": "running", "stage": "chi", "number": 4, "of": 9, "task": "documents", "done": 12, "total": 18, "failed": 0,
    "rate": 0.5, "seconds_left": 12.0, "seconds": 24.0, "reason": "", "host": "here", "process": 7, "heard": 100.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "working", "line"),
    [
        ({}, True, "at work: stage 4 of 9, chi, documents: 12/18, 30 a min, 12 s left; last heard of 5 s ago"),
        ({"failed": 2}, True, "12 s left, 2 set aside; last heard"),
        ({"task": ""}, True, "at work: stage 4 of 9, chi; last heard"),
        ({}, False, "at rest: ended without a word in stage 4 of 9, chi, documents: 12/18; last heard"),
        ({"state": "failed", "reason": "no room"}, False, "at rest: failed (no room) in stage 4 of 9"),
        ({"state": "stopped"}, False, "at rest: stopped in stage 4 of 9"),
        ({"state": "done"}, False, "at rest: done 5 s ago, by process 7 on here"),
    ],
)
def test_one_line_says_where_a_run_is(changes: dict[str, Any], working: bool, line: str) -> None:
    assert line in said_of(HEARD | changes, working, 105.0)


def test_a_run_is_at_work_while_its_lock_is_held(tmp_path: Path) -> None:
    assert not RunFolder(tmp_path).at_work()
    with open(tmp_path / "lock", "w") as file:
        assert not RunFolder(tmp_path).at_work()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert RunFolder(tmp_path).at_work()
    assert not RunFolder(tmp_path).at_work()


def test_a_run_leaves_its_account_and_status_reads_it(
    tmp_path: Path, model_folder: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", tmp_path / "out", model_folder, text_folder)
    assert main(["run", str(run_file), "--until", "taps"]) == 0
    heard = RunFolder(tmp_path / "out").account()
    assert heard is not None
    assert (heard["state"], heard["stage"], heard["number"], heard["of"]) == ("done", "taps", 2, 9)
    lines = (tmp_path / "out" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(line)["core_seconds"] > 0 for line in lines)
    capsys.readouterr()
    assert main(["status", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("at rest: done ")
    (tmp_path / "out" / PROGRESS).unlink()
    assert main(["status", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("corpus ")


class Kept:
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        self.values: list[tuple[dict[str, float], int]] = []
        self.closed = False

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        assert not self.closed
        self.values.append((values, step))

    def finalize(self, status: str) -> None:
        self.closed = True


def test_metrics_go_to_the_logger_of_the_training_one_stage_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    made: dict[str, Kept] = {}

    @contextmanager
    def opened(config: AuxConfig, name: str) -> Any:
        assert all(logger.closed for logger in made.values()), "one at a time"
        made[name] = Kept()
        yield made[name]

    monkeypatch.setattr(watching, "live_logger", opened)
    monkeypatch.setattr("scale.watching.INTERVAL", 0.0)
    watch = Watch(Silent(), [Metrics(AuxConfig(logger="tensorboard"))])
    with watch.run():
        for number, name in enumerate(("chi", "aux"), 1):
            with watch.stage(name, number, 2), watch.task("items", 3) as task:
                task.advance(2)
                assert set(made) == {"run-chi"} | {f"run-{name}"}
    assert all(logger.closed for logger in made.values())
    values = [value for value, _ in made["run-chi"].values]
    assert values[0]["items/items"] == 2
    assert values[0]["items/a second"] > 0
    assert "seconds/chi" in values[-1]


def test_tensorboard_files_are_written_where_the_training_writes_its_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    metrics = Metrics(AuxConfig(logger="tensorboard", log_folder=str(tmp_path / "logs")))
    watch = Watch(Silent(), [metrics, Keeper(RunFolder(tmp_path))])
    with watch.run(), watch.stage("chi", 1, 1), watch.task("items", 1) as task:
        task.advance()
    assert list((tmp_path / "logs" / "run-chi").rglob("events.out.tfevents.*"))
