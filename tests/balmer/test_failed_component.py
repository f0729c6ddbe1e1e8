"""A component that cannot be measured stops no run: it is named, left out, and every stage after it is made."""

from pathlib import Path

import pytest

from balmer.cli import main
from balmer.stages import NAMES
from runs import write_run_file
from scale.store import read_manifest, read_table

from spoiled import spoil  # isort: skip


def test_the_run_goes_on_and_names_it(
    tmp_path: Path,
    model_folder: Path,
    text_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", tmp_path / "out", model_folder, text_folder)
    spoil(monkeypatch, lambda key: key.component.name == "l1h0" and key.chain == 0)
    assert main(["run", str(run_file)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said.count("  chain 0 of l1h0 diverged and is left out") == 1
    assert said.count("  l1h0: too few chains survived; it has no susceptibilities") == 1
    assert {place.name for place in (tmp_path / "out").iterdir() if place.is_dir()} == set(NAMES)
    assert read_manifest(tmp_path / "out" / "chi").facts["failed"] == ["l1h0"]
    measured = read_table(tmp_path / "out" / "chi" / "components.parquet")["component"].to_list()
    assert "l1h0" not in measured
    assert {"l1h1", "l0h0", "embed", "unembed"} <= set(measured)
