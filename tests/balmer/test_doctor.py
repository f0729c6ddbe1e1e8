"""What the doctor finds, and that it says what is bad."""

from pathlib import Path

import pytest
import yaml

from balmer import doctor
from balmer.cli import main
from balmer.planning.extent import extent_of
from balmer.planning.needs import disk, draws_bytes
from balmer.runfile import read_run
from runs import write_run_file
from scale.draws.drawfile import DrawFile


def test_the_machine_and_the_libraries_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in ("python", "torch", "cores", "GiB of memory", "faiss build", "times float32's speed on"):
        assert word in said
    assert "BAD" not in said


@pytest.mark.parametrize("estimator", ["plain", "gaussian-gradient", "mean-gradient", "tangent-gradient"])
def test_the_disk_that_the_draws_need(
    estimator: str,
    tmp_path: Path,
    model_folder: Path,
    text_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a run wrote: of every component, and of the whole model if there are chains."""
    run_file = write_run_file(tmp_path / "run.yaml", tmp_path / "out", model_folder, text_folder)
    settings = yaml.safe_load(run_file.read_text(encoding="utf-8"))
    settings["sgld"] |= {"estimator": estimator, "runaway": 1000.0, "step_size": 2e-3}
    run_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["run", str(run_file), "--until", "draws", "--quiet"]) == 0
    files = [DrawFile(path) for path in (tmp_path / "out" / "draws").rglob("*.safetensors")]
    written = sum(part.nbytes for file in files for part in file.slices)
    extent = extent_of(read_run(str(run_file)))
    assert extent.parameters > 10_000
    assert draws_bytes(extent) == written
    assert main(["doctor", str(run_file)]) == 0
    said = capsys.readouterr().out
    assert f"{extent.parameters:,} parameters" in said
    assert f"{sum(disk(extent).values()) / doctor.GIB:.2f} GiB at most" in said
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 10})())
    assert main(["doctor", str(run_file)]) == 1
    assert "BAD  disk" in capsys.readouterr().out
