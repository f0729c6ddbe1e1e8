"""Controls of a run: their own folders, what they share with the run, and where they differ from it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from aux.model import AuxModel
from balmer.cli import main
from balmer.comparison import compare
from balmer.config import RunConfig
from balmer.control_state import Found, controls_of, standing
from balmer.controls import controlled
from balmer.stages import NAMES
from eval.control_permuted import permute
from runs import content, write_run_file
from scale.config import SGLDConfig
from scale.draws.stage import read_draws
from scale.errors import UserError
from scale.store import Shards, read_json, read_manifest, read_table, write_manifest

GRADIENTS = [
    "--sgld.estimator", "gaussian-gradient", "--aux.estimator", "covariance", "--sgld.localization", "1000",
    "--sgld.components", "[l0h0, l1h0, l1 mlp, l2h1, unembed]", "--taps.responses", "none", "--leakage.repeats", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, text_folder: Path) -> Path:
    """The folder of a finished run, with two finished controls and one that is not beside it."""
    place = tmp_path_factory.mktemp("controls")
    run_file = write_run_file(place / "tiny.yaml", place / "out", model_folder, text_folder)
    assert main(["run", str(run_file), "--quiet", *GRADIENTS]) == 0
    for control, last in (("permuted", "report"), ("activations", "report"), ("gaussian", "draws")):
        assert main(["run", str(place / "out"), "--quiet", "--control", control, "--until", last]) == 0
    return place / "out"


def beside(run: Path, control: str) -> Path:
    return run.with_name(f"{run.name}-{control}")


@pytest.mark.parametrize(
    ("control", "shared"),
    [("permuted", ["corpus", "taps", "draws", "chi"]), ("activations", ["corpus", "taps", "draws", "chi"]),
     ("gaussian", ["corpus"])],
)  # fmt: skip
def test_a_control_is_a_whole_run_that_shares_what_is_the_same(run: Path, control: str, shared: list[str]) -> None:
    own, theirs = content(beside(run, control)), content(run)
    made = NAMES[: NAMES.index("draws") + 1] if control == "gaussian" else NAMES
    assert {name.split("/")[0] for name in own} >= set(made)
    same = [stage for stage in made if of(own, stage) == of(theirs, stage)]
    assert same == shared
    tokens = "corpus/tokens.npy"
    assert (beside(run, control) / tokens).stat().st_ino == (run / tokens).stat().st_ino  # linked, not copied
    assert main(["status", str(beside(run, control))]) == 0


def of(found: dict[str, str], stage: str) -> dict[str, str]:
    return {name: digest for name, digest in found.items() if name.startswith(f"{stage}/")}


def test_a_finished_control_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(run), content(beside(run, "permuted"))
    assert main(["run", str(run), "--control", "permuted"]) == 0
    assert main(["run", str(beside(run, "permuted"))]) == 0
    assert capsys.readouterr().out.count("Nothing to do") == 2
    assert (content(run), content(beside(run, "permuted"))) == before


def test_activations_are_their_own_principal_components(run: Path) -> None:
    taps = Shards(run / "taps").stack("taps").astype(np.float64)
    facts = read_manifest(run / "taps").facts
    used = facts["width"] * len(facts["layers"])
    found = Shards(beside(run, "activations") / "upsampled").stack("coordinates")
    model = AuxModel.load(beside(run, "activations") / "aux")
    weight = model.decoder.weight.detach().numpy()
    assert not weight[:, used:].any()
    np.testing.assert_allclose(weight @ weight.T, np.eye(len(weight)), atol=1e-4)
    splits = read_table(run / "chi" / "rows.parquet")["split"].to_numpy()
    truth = taps[splits == "truth", :used]
    variances = np.linalg.eigvalsh(np.cov(truth.T))[::-1][: len(weight)]
    np.testing.assert_allclose((truth @ weight[:, :used].T).var(axis=0, ddof=1), variances, rtol=1e-3)
    heldout = (taps[splits == "heldout", :used] - truth.mean(axis=0)) @ weight[:, :used].T
    np.testing.assert_allclose(found[: len(heldout)], heldout, atol=1e-3 * np.abs(heldout).max())


def test_permuted_rows_keep_what_held_out_documents_measured(run: Path, tmp_path: Path) -> None:
    permute(run / "chi", tmp_path / "chi", seed=0)
    splits = read_table(run / "chi" / "rows.parquet")["split"].to_numpy()
    before, after = (Shards(folder).stack("covariance") for folder in (run / "chi", tmp_path / "chi"))
    np.testing.assert_array_equal(after[splits == "heldout"], before[splits == "heldout"])
    truth = before[splits == "truth"][:, 0, 0], after[splits == "truth"][:, 0, 0]
    np.testing.assert_array_equal(np.sort(truth[0]), np.sort(truth[1]))
    assert (truth[0] == truth[1]).mean() < 0.1
    np.testing.assert_array_equal(Shards(tmp_path / "chi").stack("loss"), Shards(run / "chi").stack("loss"))


def test_gaussian_directions_have_the_lengths_and_nothing_else(run: Path) -> None:
    chains = [pl.read_parquet(place / "draws" / "chains.parquet") for place in (run, beside(run, "gaussian"))]
    row = chains[0].filter(pl.col("component") == "l1h0").row(0, named=True)
    own, theirs = (read_draws(place / "draws", row) for place in (run, beside(run, "gaussian")))
    np.testing.assert_allclose(own.trace, theirs.trace, rtol=1e-6)
    first, second = (np.stack([np.asarray(draws.offsets[i], float) for i in range(4)]) for draws in (own, theirs))
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)]
    assert np.abs(correlations).max() < 0.1
    pairs = [abs(np.corrcoef(draws[0], draws[1])[0, 1]) for draws in (first, second)]
    assert pairs[0] > 0.3 > 0.1 > pairs[1]  # gradients at X and -X are alike; noise is not


def test_the_comparison_is_written_and_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["controls", str(run)]) == 0
    *said, place = capsys.readouterr().out.strip().splitlines()
    assert place.startswith("Report: ")
    table = pl.read_parquet(run / "controls" / "controls.parquet")
    assert table["name"].to_list() == ["run", "permuted", "activations"]  # what is finished
    assert table.filter(pl.col("name") == "run")["p"][0] is None
    assert [line.split(": ")[0] for line in said] == ["The run", "Control permuted", "Control activations"]
    assert read_json(run / "controls" / "summary.json")["sentences"] == said


def test_the_report_takes_controls_over_and_nothing_is_stale(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finished control is on the page without another command; the report made anew is the same, byte for byte."""
    page = (run / "report" / "data" / "controls.js").read_text(encoding="ascii")
    assert page.count('"sentence":"') == 2
    assert '"sentence":null' in page
    facts = read_manifest(run / "report").facts
    assert [line.split(":")[0] for line in facts["controls"]] == ["Control permuted", "Control activations"]
    before = content(run)
    assert main(["status", str(run)]) == 0
    said = capsys.readouterr().out
    assert [line.split()[:2] for line in said.splitlines()[1:]] == [[name, "done"] for name in (*NAMES, "controls")]
    assert main(["report", str(run), "--quiet"]) == 0
    assert content(run) == before


def test_a_table_of_other_clusters_is_not_shown(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither one of clusters that the run no longer has, nor one that was taken away."""
    kept = tmp_path / "controls"
    shutil.copytree(run / "controls", kept)
    try:
        change(run / "controls", "input.clusters", "another")
        assert main(["status", str(run)]) == 0
        assert ("report", "stale") in stages_said(said := capsys.readouterr().out)
        assert "input.controls: " in said
        assert ("controls", "stale") in stages_said(said)
        assert main(["run", str(run), "--quiet"]) == 0
        assert (run / "report" / "data" / "controls.js").read_text() == 'balmer.register("controls",null);\n'
    finally:
        shutil.rmtree(run / "controls")
        shutil.copytree(kept, run / "controls")
    assert main(["controls", str(run)]) == 0
    capsys.readouterr()
    assert main(["status", str(run)]) == 0
    assert ("report", "done") in stages_said(capsys.readouterr().out)


def stages_said(said: str) -> set[tuple[str, ...]]:
    return {tuple(line.split()[:2]) for line in said.splitlines()}


def change(folder: Path, field: str, value: object) -> None:
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, made_from=manifest.made_from | {field: value}))


def test_a_control_that_is_made_otherwise_is_left_out(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    for name in ("", "-permuted", "-activations"):
        shutil.copytree(run.with_name(f"out{name}"), tmp_path / f"out{name}")
    assert standing(place) == ("done", [])
    change(beside(place, "permuted") / "leakage", "leakage.k", 11)
    assert controls_of(place) == Found(
        {"activations": beside(place, "activations")}, {"permuted": ["leakage: leakage.k: 10 -> 11"]}
    )
    status, reasons = standing(place) or ("", [])
    assert status == "stale"
    assert reasons[-1] == "permuted is left out: leakage: leakage.k: 10 -> 11"
    said = compare(RunConfig(folder=str(place)))
    assert said[-1].startswith("Control permuted is left out: leakage: leakage.k: 10 -> 11; balmer run")
    assert pl.read_parquet(place / "controls" / "controls.parquet")["name"].to_list() == ["run", "activations"]
    assert standing(place) == ("done", ["permuted is left out: leakage: leakage.k: 10 -> 11"])
    change(beside(place, "activations") / "clusters", "cluster.k", 9)
    with pytest.raises(UserError, match=r"left out: leakage: leakage.k: 10 -> 11; balmer run .* --control permuted"):
        compare(RunConfig(folder=str(place)))


def test_controls_that_cannot_be_are_refused() -> None:
    gradients = RunConfig(folder="x", sgld=SGLDConfig(estimator="gaussian-gradient"))
    with pytest.raises(UserError, match="this run is that control"):
        controlled(gradients, "nbeta0")
    with pytest.raises(UserError, match="no such control; the controls are nbeta0, gaussian"):
        controlled(gradients, "null")
    once = controlled(RunConfig(folder="x"), "nbeta0")
    assert (once.folder, once.sgld.nbeta, once.control) == ("x-nbeta0", 0.0, "nbeta0")
    with pytest.raises(UserError, match="is itself the control nbeta0"):
        controlled(once, "permuted")
    with pytest.raises(UserError, match="tangent-gradient carries"):
        controlled(RunConfig(sgld=SGLDConfig(estimator="tangent-gradient", step_size=1e-4)), "gaussian")
    with pytest.raises(UserError, match="is not what sgld says"):
        RunConfig(control="nbeta0")


def test_a_run_without_controls_says_how_to_make_one(tmp_path: Path, run: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["controls", str(beside(run, "permuted"))]) == 2
    assert "--control permuted makes one" in capsys.readouterr().err
