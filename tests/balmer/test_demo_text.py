"""The demo's text written down on one machine is what another learns, with or without the library's tests."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import balmer.demo.text as demo_text
from balmer.demo.text import is_held_out, library_tests, load_corpus, prepare, prepared
from balmer.demo.train import main
from scale.corpus.sources import Text, iterate, python_library_tests, python_standard_library
from scale.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the library and of its tests, learnt by the shipped tokenizer's rules in a second."""
    everything = list(iterate("python-stdlib"))
    kept = [text for text in everything if not is_held_out(text.name)][:12] + [
        text for text in everything if is_held_out(text.name)
    ][:2]
    monkeypatch.setattr(demo_text, "iterate", lambda kind: kept)
    monkeypatch.setattr(demo_text, "library_tests", lambda: [Text("test_a.py", "assert 1 + 1 == 2\n" * 9)])


@pytest.mark.usefixtures("small_library")
def test_what_is_prepared_is_what_is_there(tmp_path: Path) -> None:
    prepare(tmp_path / "text")
    assert [file.name for file in tmp_path.iterdir()] == ["text"]
    for tests in (False, True):
        tokenizer, there = prepared(tmp_path / "text", tests=tests)
        here = load_corpus(tokenizer, tests=tests)
        assert torch.equal(there.training, here.training)
        assert torch.equal(there.held_out, here.held_out)
        facts = (there.held_out_bytes, there.files, there.test_files, there.python)
        assert facts == (here.held_out_bytes, 14, int(tests), platform.python_version())
        assert tokenizer.decode(there.training[-9:].tolist()).endswith("== 2\n") == tests
        assert len(tokenizer) == demo_text.VOCABULARY
        assert tokenizer.eos_token_id == tokenizer.bos_token_id == 0


def test_a_folder_with_nothing_prepared_and_one_that_exists(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--data .* holds no text.safetensors: make it with --prepare"):
        prepared(tmp_path, tests=False)
    with pytest.raises(UserError, match=r"^--prepare .* exists: remove it or choose another$"):
        prepare(tmp_path)


def test_the_tests_are_no_part_of_the_library() -> None:
    library, tests = set(python_standard_library()), set(python_library_tests())
    assert not library & tests
    names = {file.name for file in tests}
    assert {"test_ast.py", "test_json"} & names == {"test_ast.py"}
    assert not any("site-packages" in file.parts for file in tests)
    assert all({"test", "tests", "idle_test", "lib2to3"} & set(file.parts) for file in tests)
    assert len(library_tests()) == len(tests) > 500


def test_the_trainer_needs_neither_the_tables_nor_the_command_line() -> None:
    """A machine that is lent for its GPU has torch and transformers, hardly anything else of ours."""
    blocked = "('polars', 'jsonargparse', 'arviz', 'faiss', 'datasets', 'plotly', 'lightning')"
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "import balmer.demo.train\n"
        "assert balmer.demo.train.GPTNeoXForCausalLM.from_pretrained\n"
        "import polars\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.stderr.strip().splitlines()[-1] == "ModuleNotFoundError: polars"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out", "x"], "--out needs --steps or --minutes"),
        (["--out", "x", "--steps", "1", "--device", "abacus"], "--device must be auto, cpu or cuda, got 'abacus'"),
        (["--out", "x", "--steps", "1", "--data", "nowhere"], "--data nowhere holds no text.safetensors"),
        (["--out", "x", "--steps", "0", "--data", "nowhere"], "steps must be at least 1, got 0"),
    ],
)
def test_what_the_trainer_refuses(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", *flags])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
