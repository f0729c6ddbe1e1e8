"""What bad input gets: one line that names the file or key, exit status 2, no traceback, nothing half-written."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from balmer.cli import main
from balmer.runner import Runner
from runs import write_run_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_file(tmp_path: Path, model_folder: Path, text_folder: Path) -> Path:
    return write_run_file(tmp_path / "run.yaml", tmp_path / "out", model_folder, text_folder)


@pytest.fixture
def refused(run_file: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """Call with the command line; gives the one line that was said."""

    def call(*arguments: str) -> str:
        status = main(list(arguments) or ["run", str(run_file)])
        said = capsys.readouterr()
        assert status == 2, said
        assert said.err.startswith("balmer: ")
        assert said.err.count("\n") == 1, said.err
        assert "Traceback" not in said.err
        return said.err.strip()

    yield call
    assert not (run_file.parent / "out").exists(), "something was half-written"


def change(run_file: Path, section: str, **values: object) -> None:
    settings = yaml.safe_load(run_file.read_text(encoding="utf-8"))
    settings.setdefault(section, {}).update(values)
    run_file.write_text(yaml.safe_dump(settings), encoding="utf-8")


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--sgld.drawz", "3", "sgld.drawz: no such key; did you mean sgld.draws?"),
        ("--sgld.draws", "many", "sgld.draws: Expected a 'int'. Got value: many"),
        ("--sgld.chains", "3", "sgld.chains must be even and at least 2"),
        ("--sgld.step_size", "-1", "sgld.step_size must be positive"),
        ("--sgld.sampler", "hmc", "sgld.sampler"),
        ("--sgld.components", "[l7h0]", "sgld.components: 'l7h0' is out of range"),
        ("--probe.draws_per_document", "3", "probe.draws_per_document must be even"),
        ("--taps.count", "3", "taps.count: a model of 3 blocks has no 3 intermediate layers; use 2 or fewer"),
        ("--cluster.k", "0", "cluster.k must be at least 1"),
        ("--model.device", "abacus", "model.device: 'abacus' is not a device"),
        ("--model.path", "/nowhere/at/all", "model.path: /nowhere/at/all is not a folder"),
        ("--corpus.path", "/nowhere/at/all", "corpus.path"),
        ("--corpus.context_length", "99", "corpus.context_length: 99 is longer than the model's window of 64"),
        ("--corpus.kind", "poem", "corpus.kind"),
        ("--until", "dessert", "--until: 'dessert' is not a stage; the stages are corpus, draws"),
    ],
)  # fmt: skip
def test_a_flag_that_is_wrong(refused: object, run_file: Path, flag: str, value: str, said: str) -> None:
    assert said in refused("run", str(run_file), flag, value)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("sgld", "drawz", 3, "sgld.drawz: no such key; did you mean sgld.draws?"),
        ("sgld", "draws", "many", "sgld.draws: Expected a 'int'. Got value: many"),
        ("sgdl", "draws", 3, "sgdl.draws"),
    ],
)
def test_a_run_file_that_is_wrong(
    refused: object, run_file: Path, section: str, key: str, value: object, said: str
) -> None:
    change(run_file, section, **{key: value})
    assert said.split(".")[0] in refused()  # type: ignore[operator]
    assert section != "sgld" or said in refused()  # type: ignore[operator]


def test_a_run_file_that_is_not_yaml(refused: object, run_file: Path) -> None:
    run_file.write_text("sgld: [1, 2", encoding="utf-8")
    assert "run.yaml: not YAML: while parsing a flow sequence" in refused()  # type: ignore[operator]


def test_commands_and_files_that_do_not_exist(refused: object, tmp_path: Path) -> None:
    assert "'dance' is not a command; the commands are demo, run" in refused("dance")  # type: ignore[operator]
    assert "no such run file or run folder" in refused("run", str(tmp_path / "none.yaml"))  # type: ignore[operator]
    (tmp_path / "empty").mkdir()
    assert "not a run folder (it has no run.yaml)" in refused("status", str(tmp_path / "empty"))  # type: ignore[operator]


def test_a_model_without_weights(refused: object, run_file: Path, tmp_path: Path, model_folder: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    assert "has no weights" in refused("run", str(run_file), "--model.path", str(tmp_path / "model"))  # type: ignore[operator]


def test_a_short_document_and_an_empty_corpus(refused: object, run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("one", encoding="utf-8")
    flags = ("run", str(run_file), "--quiet", "--corpus.path", str(tmp_path / "text"))
    assert "a.txt: " in refused(*flags)  # type: ignore[operator]
    assert "gives no context" in refused(*flags, "--corpus.short_documents", "drop")  # type: ignore[operator]
    (tmp_path / "text" / "a.txt").unlink()
    assert "holds no file" in refused(*flags)  # type: ignore[operator]


def test_a_folder_that_is_not_a_run_is_left_alone(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_file.parent / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious", encoding="utf-8")
    assert main(["run", str(run_file)]) == 2
    assert "is not empty and not a run (it has no run.yaml)" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_a_run_of_another_model_is_not_overwritten(
    run_file: Path, tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(run_file), "--until", "corpus", "--quiet"]) == 0
    manifest = tmp_path / "out" / "corpus" / "manifest.json"
    before = manifest.read_bytes()
    shutil.copytree(model_folder, tmp_path / "model")
    config = (tmp_path / "model" / "config.json").read_text(encoding="utf-8")
    (tmp_path / "model" / "config.json").write_text(config + "\n", encoding="utf-8")
    other = ["run", str(run_file), "--until", "corpus", "--quiet", "--model.path", str(tmp_path / "model")]
    assert main(other) == 2
    assert "was made from another model (model.files.config.json: " in capsys.readouterr().err
    assert manifest.read_bytes() == before
    assert main([*other, "--overwrite"]) == 0
    assert manifest.read_bytes() != before


def test_two_at_once(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(run_file), "--until", "corpus", "--quiet"]) == 0
    with open(run_file.parent / "out" / "lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["run", str(run_file), "--quiet"]) == 2
    assert "another balmer is at work" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "said"), [(errno.ENOSPC, "no space left to write"), (errno.EACCES, "no permission to write")]
)
def test_what_the_operating_system_refuses(
    run_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    def refuse(*arguments: object) -> list[str]:
        raise OSError(code, os.strerror(code), "/data/run/chi.part")

    monkeypatch.setattr(Runner, "run", refuse)
    assert main(["run", str(run_file)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "/data/run/chi.part" in error
    assert error.count("\n") == 1


def test_a_disk_that_is_really_full(run_file: Path, tmp_path: Path) -> None:
    """A file system of 256 KiB, where the user may make one."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs more rights")
    try:
        command = [sys.executable, "-m", "balmer", "run", str(run_file), "--folder", str(small / "out"), "--quiet"]
        answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.startswith("balmer: no space left to write")
    assert answer.stderr.count("\n") == 1


def listen_to_ctrl_c() -> None:
    """A shell's background job ignores it, and so would everything it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_how_to_go_on(run_file: Path) -> None:
    command = [sys.executable, "-m", "balmer", "run", str(run_file)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_ctrl_c)
    while process.poll() is None and not (run_file.parent / "out" / "draws.part").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("balmer: stopped; go on with: balmer run ")
    assert "Traceback" not in said
