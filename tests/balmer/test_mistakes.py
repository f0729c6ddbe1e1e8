"""What bad input gets: one line that names the file or key, exit status 2, no traceback, nothing half-written."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import warm
from balmer.cli import main
from balmer.folder import State
from balmer.runner import Runner, check_identity
from balmer.stages import stage_named
from conftest import VOCABULARY, make_model, make_tokenizer
from runs import write_run_file
from scale.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_file(tmp_path: Path, model_folder: Path, text_folder: Path) -> Path:
    return write_run_file(tmp_path / "run.yaml", tmp_path / "out", model_folder, text_folder)


@pytest.fixture
def refused(run_file: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """Call with the command line; gives the one line that was said."""

    def call(*arguments: str) -> str:
        capsys.readouterr()  # what was said while the test got ready
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
        ("--until", "dessert", "--until: 'dessert' is not a stage; the stages are corpus, taps, draws"),
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


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("sgld", "draws", 5, "sgld.draws must be even, draws come in pairs of two signs; got 5"),
        ("sgld", "localization", 0.0, "sgld.localization must be positive for sgld.estimator: gaussian-gradient"),
        ("probe", "draws_per_document", 6, "probe.draws_per_document must be a multiple of 4"),
    ],
)
def test_settings_that_gradients_do_not_go_with(
    refused: object, run_file: Path, section: str, key: str, value: object, said: str
) -> None:
    change(run_file, "sgld", estimator="gaussian-gradient")
    change(run_file, section, **{key: value})
    assert said in refused()  # type: ignore[operator]


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


def test_a_model_that_is_no_causal_language_model(refused: object, run_file: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(small).save_pretrained(tmp_path / "model")
    make_tokenizer(tmp_path / "model")
    said = refused("run", str(run_file), "--quiet", "--model.path", str(tmp_path / "model"))  # type: ignore[operator]
    assert said == f"balmer: model.path: {tmp_path / 'model'} holds BertModel, which is not a causal language model"


def test_a_tokenizer_that_is_not_the_model_s(refused: object, run_file: Path, tmp_path: Path) -> None:
    make_model("gpt_neox", vocab_size=VOCABULARY - 1).save_pretrained(tmp_path / "model")
    flags = ("run", str(run_file), "--quiet", "--model.path", str(tmp_path / "model"))
    assert "has no tokenizer; copy the model's tokenizer.json there" in refused(*flags)  # type: ignore[operator]
    make_tokenizer(tmp_path / "model")
    said = refused(*flags)  # type: ignore[operator]
    assert f"makes ids up to {VOCABULARY - 1}, the model embeds {VOCABULARY - 1}; use the tokenizer the model" in said


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


def test_a_stage_that_never_recorded_its_model_says_nothing_of_another() -> None:
    """As those of older versions, which did not read it; of a model that was recorded, other bytes are another's."""
    stages = {name: stage_named(name) for name in ("leakage", "draws")}
    unrecorded = State(
        stages["leakage"], "stale", ["model.files.config.json: absent -> 1f", "leakage.k: 50 -> 40"], None
    )
    other = State(stages["draws"], "stale", ["model.files.config.json: 2e -> 1f"], None)
    check_identity([unrecorded], Path("run"), overwrite=False)
    check_identity([unrecorded, other], Path("run"), overwrite=True)
    with pytest.raises(UserError, match=r"^folder: run was made from another model \(model\.files\.config\.json: 2e"):
        check_identity([unrecorded, other], Path("run"), overwrite=False)


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


def test_no_space_left(run_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of a full disk, also where no small file system may be mounted (see below for a real one)."""

    def refuse(*arguments: object) -> list[str]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/run/chi.part")

    monkeypatch.setattr(Runner, "run", refuse)
    assert main(["run", str(run_file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("balmer: no space left to write /data/run/chi.part; ")
    assert error.count("\n") == 1


def as_anyone(said: Path, function: Callable[..., Any], *arguments: Any) -> tuple[int | None, str]:
    """Exit status, and what was written to standard error."""
    if os.geteuid() == 0 and sys.platform != "linux":
        pytest.skip("root can give up its rights on Linux only; run the tests as an ordinary user")
    process = warm.call(function, *arguments, said=said, before=warm.bound_by_modes)
    process.join()
    return process.exitcode, said.read_text(encoding="utf-8")


@pytest.fixture
def balmer_as_anyone(tmp_path: Path) -> Callable[..., str]:
    def call(*arguments: str) -> str:
        status, said = as_anyone(tmp_path / "said", warm.command_line, list(arguments))
        assert status == 2, said
        assert said.startswith("balmer: ")
        assert said.count("\n") == 1, said
        return said.strip()

    return call


@pytest.fixture
def locked() -> Iterator[object]:
    """Call with a folder or file and a mode; the modes are given back, so that all can be cleared away."""
    before: list[tuple[Path, int]] = []

    def call(path: Path, mode: int) -> None:
        before.append((path, path.stat().st_mode))
        path.chmod(mode)

    yield call
    for path, mode in reversed(before):
        path.chmod(mode)


def digests(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_child_is_bound_by_modes(tmp_path: Path, locked: object) -> None:
    """The control of the tests below: it is refused where it may not write, and not where it may."""
    (tmp_path / "mine").mkdir()
    assert as_anyone(tmp_path / "said", (tmp_path / "mine" / "file").touch) == (0, "")
    locked(tmp_path / "mine", 0o555)  # type: ignore[operator]
    status, said = as_anyone(tmp_path / "said", (tmp_path / "mine" / "other").touch)
    assert (status, said.count("Permission denied")) == (1, 1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]


def test_a_place_where_no_run_may_be_made(
    run_file: Path, tmp_path: Path, locked: object, balmer_as_anyone: Callable[..., str]
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    locked(shelf, 0o555)  # type: ignore[operator]
    said = balmer_as_anyone("run", str(run_file), "--folder", str(shelf / "out"), "--quiet")
    assert said == f"balmer: no permission to write {shelf / 'out'}; change its rights or name another folder"
    assert list(shelf.iterdir()) == []


def test_a_run_that_may_not_be_gone_on_with(
    run_file: Path, tmp_path: Path, locked: object, balmer_as_anyone: Callable[..., str]
) -> None:
    out = tmp_path / "out"
    assert main(["run", str(run_file), "--until", "corpus", "--quiet"]) == 0
    before = digests(out)
    locked(out, 0o555)  # type: ignore[operator]
    said = balmer_as_anyone("run", str(run_file), "--quiet")
    assert said.startswith(f"balmer: no permission to write {out}")
    assert digests(out) == before
    out.chmod(0o755)
    assert main(["run", str(run_file), "--until", "draws", "--quiet"]) == 0


def test_a_text_that_may_not_be_read(
    run_file: Path, tmp_path: Path, text_folder: Path, locked: object, balmer_as_anyone: Callable[..., str]
) -> None:
    own = tmp_path / "own"
    shutil.copytree(text_folder, own)
    change(run_file, "corpus", path=str(own))
    text = sorted(own.iterdir())[3]
    locked(text, 0o000)  # type: ignore[operator]
    said = balmer_as_anyone("run", str(run_file), "--quiet")
    assert said == f"balmer: corpus.path: no permission to read {text}"
    locked(run_file, 0o000)  # type: ignore[operator]
    said = balmer_as_anyone("run", str(run_file), "--quiet")
    assert said == f"balmer: no permission to read {run_file}; change its rights or name another file"


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
        process = warm.start(["run", str(run_file), "--folder", str(small / "out"), "--quiet"], tmp_path / "said")
        process.join()
    finally:
        subprocess.run(["umount", str(small)], check=True)
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert process.exitcode == 2, said
    assert said.startswith("balmer: no space left to write")
    assert said.count("\n") == 1


def test_ctrl_c_says_how_to_go_on(run_file: Path, tmp_path: Path) -> None:
    process = warm.start(["run", str(run_file)], tmp_path / "said", before=warm.listening_to_ctrl_c)
    while process.is_alive() and not (tmp_path / "out" / "draws.part").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(timeout=60)
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert process.exitcode == 130
    assert said.strip().splitlines()[-1].startswith("balmer: stopped; go on with: balmer run ")
    assert "Traceback" not in said
