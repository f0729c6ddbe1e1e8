"""The shape of the house: which way imports run, and what the front door offers."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import balmer

ROOT = Path(__file__).resolve().parents[2]
#: What each folder may import of the others.
BELOW = {
    "scale": set(),
    "aux": {"scale"},
    "cluster": {"scale"},
    "eval": {"scale", "aux", "cluster"},
    "balmer": {"scale", "aux", "cluster", "eval"},
}

#: Folders of scale, each of which may import those before it.
WITHIN = ("model", "corpus", "draws", "chi", "taps", "calibrate")


def imports_of(source: str) -> set[str]:
    """Top-level packages a module imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def arrows_back(folder: str, source: str) -> set[str]:
    return (imports_of(source) & set(BELOW)) - BELOW[folder] - {folder}


@pytest.mark.parametrize("folder", BELOW)
def test_imports_run_one_way(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) > 3
    back = {f: arrows_back(folder, f.read_text(encoding="utf-8")) for f in files}
    assert {str(f.relative_to(ROOT)): names for f, names in back.items() if names} == {}


def test_an_arrow_that_runs_back_is_seen() -> None:
    assert arrows_back("scale", "def f():\n    from aux.model import AuxModel") == {"aux"}
    assert arrows_back("cluster", "import aux.model") == {"aux"}
    assert arrows_back("eval", "from cluster.graph import knn_graph") == set()


def parts_of_scale(source: str) -> set[str]:
    """Folders of scale that a module imports when it is run."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    modules |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    return {parts[1] for m in modules if (parts := m.split("."))[0] == "scale" and len(parts) > 1} & set(WITHIN)


def test_within_scale_they_run_one_way_too() -> None:
    """Each folder imports those before it alone; the files beside them, which all use, none."""
    back = {}
    for file in sorted((ROOT / "scale").rglob("*.py")):
        own = file.relative_to(ROOT / "scale").parts[0]
        below = set(WITHIN[: WITHIN.index(own)]) if own in WITHIN else set()
        back[str(file)] = parts_of_scale(file.read_text(encoding="utf-8")) - below - {own}
    assert {name: found for name, found in back.items() if found} == {}
    assert all((ROOT / "scale" / name).is_dir() for name in WITHIN)


def test_an_arrow_that_runs_back_within_scale_is_seen() -> None:
    assert parts_of_scale("def f():\n    from scale.chi.stage import make\nimport scale.model.tail") == {"chi", "model"}
    assert parts_of_scale("from scale.store import x\nif TYPE_CHECKING:\n    from scale.chi import stage") == set()


@pytest.mark.parametrize("folder", BELOW)
def test_eval_is_never_rebound(folder: str) -> None:
    """`import eval.x` would hide the builtin in that module."""
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(a.name.split(".")[0] == "eval" and not a.asname for a in node.names), file


@pytest.mark.parametrize("name", balmer.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(balmer, name)
    assert callable(found)
    assert found.__doc__


def test_the_list_of_public_names_is_one_list() -> None:
    assert set(balmer.HOMES) == set(balmer.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        balmer.nonsense  # noqa: B018


def test_a_package_of_another_distribution_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "__init__.py").write_text("", encoding="utf-8")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import balmer"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert answer.returncode != 0
    assert answer.stderr.strip().endswith(
        f"the package 'cluster' is taken by {tmp_path / 'cluster'}; install Balmer into an environment of its own"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["doctor"]])
def test_a_reader_that_has_seen_enough_is_no_mistake(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "balmer", *arguments]
    answer = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    os.close(writing)
    assert (answer.returncode, answer.stderr) == (1, "")


def test_nothing_heavy_is_imported_at_the_door() -> None:
    heavy = {"torch", "transformers", "lightning", "faiss"}
    code = f"import sys, balmer, balmer.cli; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["", "run", "calibrate", "doctor", "plan"])
def test_help_is_instant(command: str) -> None:
    """Under a second of processor time: what the machine does besides does not count."""
    code = f"""
import atexit, sys, time
atexit.register(lambda: print(time.process_time(), file=sys.stderr))
from balmer.cli import main
main({[*command.split(), "--help"]!r})
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "usage" in answer.stdout
    assert float(answer.stderr.strip().splitlines()[-1]) < 1.0
