"""`kill -9` in every stage, the same command again each time: the same bytes as an uninterrupted run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from runs import content, write_run_file

from balmer.stages import NAMES

ROOT = Path(__file__).resolve().parents[2]


def start(run_file: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "balmer", "run", str(run_file)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def kill_inside(stage: str, run_file: Path) -> int:
    """Run until ``stage`` is being made, then kill; returns how many of its shards were finished by then."""
    process, part = start(run_file), run_file.parent / "out" / f"{stage}.part"
    while process.poll() is None and not part.exists():
        time.sleep(0.001)
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, f"{stage} was over before it could be killed"
    assert part.exists(), f"{stage} was published before it could be killed"
    return len(list((part / "shards").glob("[!.]*")))


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
