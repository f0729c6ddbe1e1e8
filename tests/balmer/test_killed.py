"""`kill -9` in every stage, the same command again each time: the same bytes as an uninterrupted run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from balmer.stages import NAMES
from runs import content, write_run_file

ROOT = Path(__file__).resolve().parents[2]


def start(run_file: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "balmer", "run", str(run_file)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def killed_after(delay: float, stage: str, run_file: Path) -> bool:
    """Run until ``stage`` is being made, wait, kill; whether the stage was still unfinished by then."""
    out = run_file.parent / "out"
    process = start(run_file)
    while process.poll() is None and not (out / f"{stage}.part").exists():
        pass
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL and (out / f"{stage}.part").exists() and not (out / stage).exists()


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
    _, said = process.communicate()
    assert process.returncode == 0, said


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
