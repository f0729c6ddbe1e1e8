"""`kill -9` in every stage, the same command again each time: the same bytes as an uninterrupted run."""

import shutil
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import warm
from balmer.stages import NAMES
from runs import content, write_run_file


def start(run_file: Path) -> ForkServerProcess:
    return warm.start(["run", str(run_file)], run_file.with_suffix(".said"))


def killed_after(delay: float, stage: str, run_file: Path) -> bool:
    """Run until ``stage`` is being made, wait, kill; whether the stage was still unfinished by then."""
    out = run_file.parent / "out"
    process = start(run_file)
    while process.is_alive() and not (out / f"{stage}.part").exists():
        time.sleep(0.0005)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL and (out / f"{stage}.part").exists() and not (out / stage).exists()


def kill_inside(stage: str, run_file: Path) -> None:
    """Kill while ``stage`` is being made; on a fast machine it may be over first, and is then made again."""
    for delay in (0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0, 0.0, 0.0):
        if killed_after(delay, stage, run_file):
            return
        for made in NAMES[NAMES.index(stage) :]:
            shutil.rmtree(run_file.parent / "out" / made, ignore_errors=True)
    raise AssertionError(f"{stage} was never caught unfinished")


def finish(run_file: Path) -> None:
    process = start(run_file)
    process.join()
    assert process.exitcode == 0, run_file.with_suffix(".said").read_text(encoding="utf-8")


def test_killed_in_every_stage(tmp_path: Path, model_folder: Path, text_folder: Path) -> None:
    whole = write_run_file(tmp_path / "whole.yaml", tmp_path / "whole", model_folder, text_folder)
    (tmp_path / "broken").mkdir()
    broken = write_run_file(tmp_path / "broken" / "run.yaml", tmp_path / "broken" / "out", model_folder, text_folder)
    for stage in NAMES:
        kill_inside(stage, broken)
    finish(broken)
    finish(whole)
    expected = content(tmp_path / "whole")
    assert len(expected) > 50
    assert content(tmp_path / "broken" / "out") == expected
