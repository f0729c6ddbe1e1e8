"""`balmer calibrate` from end to end, on a small model that has learnt its text."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
import yaml

from balmer.cli import main
from balmer.runfile import read_run
from conftest import make_model
from runs import write_run_file
from scale.calibrate.criteria import CRITERIA
from scale.chi.stage import MOST_TILT
from scale.corpus.stage import split_tokens
from scale.costs import METHODS

#: Few and short chains of one small component, three steps and one other γ; limits that so few draws can meet.
SMALL = [
    "--calibrate.components", "[l2h1]", "--calibrate.steps", "32", "--calibrate.step_factors", "[0.5, 1, 9]",
    "--calibrate.nbeta_factors", "[1]", "--calibrate.localization_factors", "[1, 3]", "--calibrate.probe_contexts", "2",
    "--calibrate.noise", "9", "--calibrate.min_signal", "1", "--calibrate.max_jump", "100",
]  # fmt: skip
MORE = ["--calibrate.step_factors", "[1]", "--calibrate.probe_contexts", "8"]
#: For a run whose sampler need not pass.
BRIEF = ["--calibrate.components", "[l2h1]", "--calibrate.steps", "16", "--calibrate.probe_contexts", "2"]
SETTINGS = {"step_size": 1e-4, "nbeta": 1.0, "localization": 300.0, "reference_contexts": 8}
HEADING = re.compile(r" +ε +nβ +γ +rise +bias +R-hat +signal +time +χ +cov +to 0.8  verdict")


def learnt(tokens: np.ndarray) -> Any:
    """A model close to a minimum on these contexts: chains that begin there go up."""
    model = make_model("gpt_neox").train()
    batch = torch.from_numpy(tokens).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 80)
    for _ in range(80):
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        scheduler.step()
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, text_folder: Path) -> Path:
    """The folder of a model that has learnt the contexts that its chains will run on."""
    place = tmp_path_factory.mktemp("learnt")
    run_file = write_run_file(place / "run.yaml", place / "out", model_folder, text_folder)
    assert main(["run", str(run_file), "--until", "corpus", "--quiet"]) == 0
    shutil.copytree(model_folder, place / "model")
    learnt(split_tokens(place / "out" / "corpus", "truth", 8)).save_pretrained(place / "model")
    return place / "model"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, trained: Path, text_folder: Path) -> tuple[Path, str]:
    """A commented run file after `calibrate --write`, and what was said."""
    place = tmp_path_factory.mktemp("calibrated")
    plain = write_run_file(place / "plain.yaml", place / "out", trained, text_folder)
    settings = yaml.safe_load(plain.read_text(encoding="utf-8"))
    settings["sgld"] |= SETTINGS
    del settings["sgld"]["burn_in"]
    text = "# why this run\n" + yaml.safe_dump(settings).replace("step_size: 0.0001", "step_size: 1.0e-4  # a guess")
    (place / "run.yaml").write_text(text, encoding="utf-8")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = main(["calibrate", str(place / "run.yaml"), "--write", *SMALL])
    assert status == 0, said.getvalue()
    return place / "run.yaml", said.getvalue()


def figure_data(page: str, name: str) -> list[dict[str, Any]]:
    """The traces of one figure, as the page holds them."""
    found = re.search(rf'<div id="{name}"></div><script>{{ const figure = (.*?); Plotly.newPlot', page)
    assert found is not None
    return json.loads(found[1].replace("<\\/", "</"))["data"]


def test_the_table_has_a_row_per_setting_and_component(calibrated: tuple[Path, str]) -> None:
    table = polars.read_parquet(calibrated[0].parent / "out" / "calibration" / "calibration.parquet")
    settings = table.select("step_size", "nbeta", "localization").unique(maintain_order=True).rows()
    assert settings == [(5e-5, 1, 300), (1e-4, 1, 300), (9e-4, 1, 300), (3.33e-5, 1, 900)]
    assert table["component"].to_list() == ["l2h1", "full"] * 4
    for name in CRITERIA:
        assert table[f"{name}_passed"].dtype == polars.Boolean
        assert table[name].is_not_null().all()
    for row in table.iter_rows(named=True):
        assert row["passes"] == all(row[f"{name}_passed"] is not False for name in CRITERIA)
    assert table.filter("chosen").select("step_size").unique().to_series().to_list() == [1e-4]
    assert table.filter(component="l2h1")["reliability"].is_between(0, 1).all()


def test_the_recommendation_is_explained_by_the_table(calibrated: tuple[Path, str]) -> None:
    """Every number in the reasons is one of the table's, and the lines to copy are what was written."""
    run_file, said = calibrated
    lines = said.splitlines()
    assert HEADING.fullmatch(lines[0])
    assert [line.split()[-1] for line in lines[1:5]] == ["passes", "recommended", "2/2", "passes"]
    summary = lines[5 : lines.index(next(line for line in lines if line.startswith("Written")))]
    assert len(summary) <= 24
    table = polars.read_parquet(run_file.parent / "out" / "calibration" / "calibration.parquet")
    chosen, too_large = table.filter("chosen"), table.filter(step_size=9e-4)
    assert f"its bias {chosen['unbiased'].max():.0%}; at 0.0009" in summary[1]
    assert f"by {too_large['unbiased'].max():.0%} (limit 10%)" in summary[1]
    time = chosen["weights_time"].max()
    assert f"{time:.1f} steps" in summary[3] or f"{chosen['loss_time'].median():.1f} steps" in summary[3]
    copied = yaml.safe_load("\n".join(summary[summary.index("sgld:") :]))["sgld"]
    written = yaml.safe_load(run_file.read_text(encoding="utf-8"))["sgld"]
    assert copied == {key: written[key] for key in copied}


def test_the_run_file_keeps_its_comments_and_loads_with_the_values(calibrated: tuple[Path, str]) -> None:
    text = calibrated[0].read_text(encoding="utf-8")
    assert text.startswith("# why this run\n")
    assert "step_size: 0.0001  # a guess" in text
    sgld = read_run(str(calibrated[0])).sgld
    assert (sgld.step_size, sgld.nbeta, sgld.localization, sgld.batch_contexts) == (1e-4, 1.0, 300.0, 2)
    assert sgld.burn_in > 20 and sgld.steps_between_draws > 1  # noqa: PT018 - both were made longer


def test_the_allocation_is_that_of_the_table(calibrated: tuple[Path, str]) -> None:
    """Every estimator is tried on the part that the run uses; what is chosen is of this posterior."""
    run_file, said = calibrated
    assert "\nAllocation for aux.estimator two-chain: median reliability 0.8 of 11 columns, 624 tokens\n" in said
    table = polars.read_parquet(run_file.parent / "out" / "calibration" / "allocation.parquet")
    assert set(table["estimator"]) == set(METHODS)
    for row in table.iter_rows(named=True):
        assert f"  {row['estimator']}, γ {row['localization']:g}: " in said
    gradients = table.filter(estimator="gaussian-gradient")
    bent = gradients.filter(polars.col("tilt") > MOST_TILT)
    assert set(bent["localization"]) == set(gradients.drop_nulls("refused")["localization"])
    assert {"l2h1", "full"} == set(gradients["component"])  # two-chain: the full model's posterior counts as well
    chosen, config = table.filter("chosen"), read_run(str(run_file))
    assert chosen["refused"].is_null().all()
    assert not chosen["bound"].any()
    row = chosen.row(0, named=True)
    found = (config.sgld.estimator, config.sgld.chains, config.sgld.draws, config.probe.draws_per_document)
    assert found == tuple(row[key] for key in ("estimator", "chains", "draws", "draws_per_document"))
    assert config.probe.draws_per_document <= 0.25 * config.sgld.chains * config.sgld.draws
    published = re.search(
        r"published setting, plain 4 x 100 draws 160 steps apart: reliability (at most )?(\d\.\d+)", said
    )
    assert published is not None
    assert 0 < float(published[2]) <= 1


@pytest.fixture
def gradient_file(tmp_path: Path, trained: Path, text_folder: Path) -> Path:
    """A run that takes gradients of the covariance, in a posterior narrow enough for them to be alike."""
    plain = write_run_file(tmp_path / "plain.yaml", tmp_path / "out", trained, text_folder)
    settings = yaml.safe_load(plain.read_text(encoding="utf-8"))
    settings["sgld"] |= {**SETTINGS, "estimator": "gaussian-gradient", "localization": 3e4, "step_size": 1e-6}
    settings["aux"]["estimator"] = "covariance"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return tmp_path / "run.yaml"


def test_a_run_of_gradients_is_calibrated_too(gradient_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its nβ and γ stay, no grid is tried, and a run takes the values as they are written."""
    assert main(["calibrate", str(gradient_file), "--write", *SMALL, *MORE]) == 0
    said = capsys.readouterr().out
    calibration = gradient_file.parent / "out" / "calibration"
    assert polars.read_parquet(calibration / "calibration.parquet")["sweep"].unique().to_list() == ["step"]
    table = polars.read_parquet(calibration / "allocation.parquet").filter(estimator="gaussian-gradient")
    assert table["component"].to_list() == ["l2h1"]  # the covariance asks nothing of the full model
    assert table["tilt"].item() < MOST_TILT
    assert table["chosen"].item(), said
    assert "gaussian-gradient is chosen" in said
    config = read_run(str(gradient_file))
    assert (config.sgld.estimator, config.sgld.nbeta, config.sgld.localization) == ("gaussian-gradient", 1.0, 3e4)
    assert config.sgld.draws % 2 == config.probe.draws_per_document % 4 == 0
    assert main(["run", str(gradient_file), "--until", "chi", "--quiet", "--sgld.components", "[l2h1]"]) == 0
    (reached,) = polars.read_parquet(gradient_file.parent / "out" / "chi" / "components.parquet")["tilt"].to_list()
    assert reached == pytest.approx(table["tilt"].item(), rel=0.8)  # the same figure, from other draws


def test_gradients_are_refused_where_the_loss_bends_the_posterior(
    gradient_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At this γ and the larger ones that are tried; the sampler's verdict is another matter."""
    flags = ["--sgld.nbeta", "3e5", "--calibrate.step_factors", "[0.001]", *BRIEF]
    assert main(["calibrate", str(gradient_file), *flags, "--calibrate.localization_factors", "[1, 2]"]) in (0, 1)
    said = capsys.readouterr().out
    for gamma in ("30000", "60000"):
        assert f"  gaussian-gradient, γ {gamma}: refused: nβ sd(φ) above {MOST_TILT:g}, not N(w*, I/γ): l2h1 " in said
    assert "gaussian-gradient is chosen" not in said
    table = polars.read_parquet(gradient_file.parent / "out" / "calibration" / "allocation.parquet")
    tilts = table.filter(estimator="gaussian-gradient").sort("localization")["tilt"].to_list()
    assert tilts[0] > tilts[1] > MOST_TILT
    assert not table.filter(estimator="gaussian-gradient")["chosen"].any()


def test_the_page_holds_every_trace_and_asks_the_network_for_nothing(calibrated: tuple[Path, str]) -> None:
    page = (calibrated[0].parent / "out" / "calibration" / "calibration.html").read_text(encoding="utf-8")
    own = re.sub(r"<script>/\*\*.*?</script>", "", page, flags=re.DOTALL)
    assert len(own) < len(page) / 10  # plotly is inside
    assert not re.search(r'(src|href)="', own)
    assert "prefers-color-scheme: dark" in own
    traces = figure_data(page, "step") + figure_data(page, "grid")
    assert len(traces) == 4 * 2 * 2  # settings, components, chains
    assert all(trace["x"] == list(range(0, 33, 2)) and trace["y"][0] == 0 for trace in traces)
    assert [trace["name"] for trace in traces if trace["showlegend"]] == [
        "ε 5e-05  nβ 1  γ 300", "ε 0.0001  nβ 1  γ 300", "ε 0.0009  nβ 1  γ 300", "ε 3.33e-05  nβ 1  γ 900",
    ]  # fmt: skip
    names = [trace["name"] for trace in figure_data(page, "allocation") if trace.get("showlegend", True)]
    assert set(names) >= {"plain, γ 300", "published 4 x 100"}
    (bars,) = figure_data(page, "cost")
    assert [y for y, text in zip(bars["y"], bars["text"], strict=True) if "recommended" in text] == [
        "ε 0.0001  nβ 1  γ 300"
    ]


def test_the_run_goes_on_as_if_nothing_had_been_tried(
    calibrated: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is no stage: the corpus is still done, the rest still to do, and a run does not touch it."""
    run_file, out = calibrated[0], calibrated[0].parent / "out"
    before = {path.name: path.stat().st_mtime_ns for path in (out / "calibration").iterdir()}
    assert main(["status", str(run_file)]) == 0
    _, *lines = capsys.readouterr().out.splitlines()  # how the last command ended comes first
    assert [line.split()[:2] for line in lines][:2] == [["corpus", "done"], ["taps", "to"]]
    assert not any("calibrat" in line for line in lines)
    other = ["--sgld.burn_in", "2", "--sgld.components", "[l2h1]"]
    assert main(["run", str(run_file), "--until", "draws", "--from", "corpus", "--quiet", *other]) == 0
    assert {path.name: path.stat().st_mtime_ns for path in (out / "calibration").iterdir()} == before
    assert main(["status", str(run_file), *other, "--calibrate.steps", "80"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:4]] == ["done"] * 3


def test_when_nothing_passes_the_status_says_so_and_nothing_is_written(
    calibrated: tuple[Path, str], trained: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = calibrated[0].parent
    run_file = write_run_file(place / "hopeless.yaml", place / "out", trained, text_folder)
    before = run_file.read_bytes()
    flags = [*SMALL, "--calibrate.step_factors", "[1000]", "--calibrate.steps", "16"]
    assert main(["calibrate", str(run_file), "--write", *flags]) == 1
    said = capsys.readouterr().out
    assert "No setting passes. Failed most: " in said
    assert "Try smaller steps: --calibrate.step_factors" in said
    assert run_file.read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--calibrate.stepz", "3"], "calibrate.stepz: no such key; did you mean calibrate.steps?"),
        (["--calibrate.steps", "15"], "calibrate.steps must be at least 16 (8 draws), got 15"),
        (["--calibrate.chains", "3"], "calibrate.chains must be even and at least 2, got 3"),
        (["--calibrate.step_factors", "[]"], "calibrate.step_factors is empty"),
        (["--calibrate.nbeta_factors", "[-1]"], "calibrate.nbeta_factors must be positive, got [-1"),
        (["--calibrate.target_reliability", "1"], "calibrate.target_reliability must lie between 0 and 1"),
        (["--calibrate.components", "[l9h0]"], "calibrate.components: 'l9h0' is out of range"),
    ],
)
def test_bad_input_gets_one_line(
    tmp_path: Path,
    model_folder: Path,
    text_folder: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", tmp_path / "out", model_folder, text_folder)
    assert main(["calibrate", str(run_file), "--quiet", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("balmer: ")
    assert error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "out").exists()


def test_a_run_file_that_cannot_be_written_into_is_refused_before_the_work(
    tmp_path: Path, model_folder: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", tmp_path / "out", model_folder, text_folder)
    settings = yaml.safe_load(run_file.read_text(encoding="utf-8"))
    run_file.write_text(yaml.safe_dump(settings, default_flow_style=True), encoding="utf-8")
    assert main(["calibrate", str(run_file), "--write"]) == 2
    assert "is not one key per line; copy the lines by hand" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["calibrate", str(tmp_path / "none.yaml")]) == 2
    assert "no such run file or run folder" in capsys.readouterr().err
