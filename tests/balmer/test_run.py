"""A whole run: made once, left alone, changed in one place, made twice."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from balmer.cli import main
from balmer.folder import RunFolder
from balmer.stages import NAMES
from runs import content, write_run_file
from scale.store import read_manifest


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, text_folder: Path) -> Path:
    """The run file of a run that was carried through."""
    place = tmp_path_factory.mktemp("run")
    run_file = write_run_file(place / "tiny.yaml", place / "out", model_folder, text_folder)
    threads = torch.get_num_threads()
    assert main(["run", str(run_file), "--quiet"]) == 0
    assert torch.get_num_threads() == threads  # whatever other libraries started threads of their own
    return run_file


def out(run_file: Path) -> Path:
    return run_file.parent / "out"


def made(run_file: Path) -> list[str]:
    """Stages in the order in which they were ever made."""
    lines = (out(run_file) / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["stage"] for line in lines]


def test_every_stage_is_published_and_nothing_is_left_over(finished: Path) -> None:
    folders = {p.name for p in out(finished).iterdir() if p.is_dir()}
    assert folders == set(NAMES)
    assert not list(out(finished).rglob("*.tmp")) + list(out(finished).rglob("*.part*"))
    assert (out(finished) / "report" / "index.html").is_file()


def test_a_finished_run_is_left_alone_and_says_so(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, history = content(out(finished)), made(finished)
    assert main(["run", str(finished)]) == 0
    said = capsys.readouterr()
    assert "Nothing to do" in said.out
    assert "Report: " in said.out
    assert content(out(finished)) == before
    assert made(finished) == history


def test_the_run_folder_can_be_run_as_it_stands(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (out(finished) / "run.yaml").read_text(encoding="utf-8")
    assert text.startswith("# balmer ")
    assert "# torch 2" in text
    assert yaml.safe_load(text)["sgld"]["rmsprop_decay"] == 0.99  # resolved: defaults are there too
    assert main(["run", str(out(finished))]) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_changing_k_makes_clusters_leakage_and_report_only(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = len(made(finished))
    assert main(["status", str(finished), "--cluster.k", "9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "cluster.k: 8 -> 9" in "\n".join(lines)
    states = {line.split()[0]: line.split()[1] for line in lines if not line.startswith(" ")}
    assert [name for name, state in states.items() if state == "stale"] == ["clusters", "leakage", "report"]
    assert main(["run", str(finished), "--quiet", "--cluster.k", "9"]) == 0
    assert made(finished)[count:] == ["clusters", "leakage", "report"]
    assert main(["run", str(finished), "--quiet"]) == 0  # and back


def test_twice_with_one_seed_is_twice_the_same(
    finished: Path, tmp_path: Path, model_folder: Path, text_folder: Path
) -> None:
    again = write_run_file(tmp_path / "again.yaml", tmp_path / "out", model_folder, text_folder)
    assert main(["run", str(again), "--quiet"]) == 0
    assert content(out(again)) == content(out(finished))


def test_gradients_in_place_of_chains(
    tmp_path: Path, model_folder: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", tmp_path / "out", model_folder, text_folder)
    command = ["run", str(run_file), "--sgld.estimator", "gaussian-gradient", "--aux.estimator", "covariance"]
    assert main([*command, "--sgld.localization", "1000"]) == 0
    assert "Report: " in capsys.readouterr().out
    assert set(NAMES) <= {p.name for p in (tmp_path / "out").iterdir()}
    facts = read_manifest(tmp_path / "out" / "chi").facts
    assert facts["estimator"] == "gaussian-gradient"
    assert main([*command, "--sgld.localization", "1000"]) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert main(["status", str(run_file), "--sgld.localization", "1000", *command[4:]]) == 0
    assert "sgld.estimator" in capsys.readouterr().out


def test_another_seed_is_another_run_from_there_on(finished: Path) -> None:
    before = content(out(finished))
    count = len(made(finished))
    assert main(["run", str(finished), "--quiet", "--aux.seed", "5", "--until", "aux"]) == 0
    assert made(finished)[count:] == ["aux"]
    after = content(out(finished))
    changed = {name.split("/")[0] for name in before if after.get(name) != before[name]}
    assert changed == {"aux"}
    assert main(["run", str(finished), "--quiet"]) == 0
    assert content(out(finished)) == before


def test_from_makes_a_stage_again_though_it_is_done(finished: Path) -> None:
    count, before = len(made(finished)), content(out(finished))
    assert main(["run", str(finished), "--quiet", "--from", "leakage"]) == 0
    assert made(finished)[count:] == ["leakage", "report"]
    assert content(out(finished)) == before


def test_the_report_command_makes_the_report_only(finished: Path) -> None:
    count = len(made(finished))
    assert main(["report", str(out(finished)), "--quiet"]) == 0
    assert made(finished)[count:] == ["report"]


def test_a_stage_that_other_settings_began_is_begun_anew(finished: Path, tmp_path: Path) -> None:
    """What an interrupted run left is used only if it was made from the same things."""
    from balmer.stages import stage_named

    folder = RunFolder(tmp_path)
    part = folder.open_part(stage_named("chi"), {"probe.seed": 0})
    (part / "finished").touch()
    assert (folder.open_part(stage_named("chi"), {"probe.seed": 0}) / "finished").exists()
    assert not (folder.open_part(stage_named("chi"), {"probe.seed": 1}) / "finished").exists()
