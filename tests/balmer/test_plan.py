"""What a plan counts against what torch and a run do, and how it moves with what is asked for."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from aux.config import Architecture
from aux.model import AuxModel, AuxShape
from aux.ridge import fit_ridge
from aux.rows import ShardedRows
from balmer.cli import main
from balmer.planning import needs, probes
from balmer.planning import work as planned_work
from balmer.planning.extent import Extent, extent_of
from balmer.planning.plan import Cluster, Plan, advice, changed, plan
from balmer.planning.rates import KINDS, Rates, joined, missing, read_rates, written_rates
from balmer.runfile import read_run
from conftest import MODELS, make_model
from runs import write_run_file
from scale.errors import UserError
from scale.model.architecture import read_architecture
from scale.model.operations import Shape, shape_of_model
from scale.store import read_table

SHAPE = Shape(layers=4, width=64, heads=4, intermediate=256, vocabulary=1000)
RATES = Rates("cpu", "a core", "made up", {kind: 10.0**9 for kind in KINDS}, walks_per_point=0.1, library_bytes=2**29)
LENGTH = 16


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, text_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    return write_run_file(folder / "run.yaml", folder / "out", model_folder, text_folder)


@pytest.fixture(scope="module")
def made(run_file: Path) -> Path:
    """The folder of that run, carried through."""
    assert main(["run", str(run_file), "--quiet"]) == 0
    return run_file.parent / "out"


@pytest.fixture(scope="module")
def extent(run_file: Path) -> Extent:
    return extent_of(read_run(str(run_file)))


def of(extent: Extent, section: str, **settings: Any) -> Extent:
    return changed(extent, {section: settings})


def planned(extent: Extent, workers: int = 1, rates: Rates = RATES) -> Plan:
    return plan(extent, Cluster(workers, workers), rates)


def stage(found: Plan, name: str) -> Any:
    return next(one for one in found.stages if one.name == name)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_counted_operations_are_those_that_torch_does(kind: str, extent: Extent) -> None:
    """Of the linear products; attention is counted causal, which no kernel of the processor is."""
    model = make_model(kind)
    model.set_attn_implementation("eager")
    shape = shape_of_model(model, read_architecture(model))
    ids = torch.randint(shape.vocabulary, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    corpus = replace(extent.config.corpus, context_length=LENGTH)
    own = replace(extent, shape=shape, config=replace(extent.config, corpus=corpus))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, use_cache=False)
    attention = 4 * LENGTH * shape.width * shape.layers * ids.numel()
    causal = 2 * (LENGTH + 1) * shape.width * shape.layers * ids.numel()
    counted = sum(planned_work.forward(own, ids.numel(), 0).values())
    assert counted - causal == counter.get_total_flops() - attention
    upper = sum(planned_work.forward(own, ids.numel(), 1).values())
    assert counted - upper == planned_work.through_blocks(own, ids.numel(), 1)["blocks"] > 0


def test_gradients_are_counted_as_autograd_does_them(extent: Extent) -> None:
    """Of the embedding, so that nothing but activations has gradients; its own asks for no product."""
    model = make_model("gpt_neox")
    model.set_attn_implementation("eager")
    model.requires_grad_(False)
    model.get_input_embeddings().requires_grad_(True)
    shape = shape_of_model(model, read_architecture(model))
    ids = torch.randint(shape.vocabulary, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    corpus = replace(extent.config.corpus, context_length=LENGTH)
    own = replace(extent, shape=shape, config=replace(extent.config, corpus=corpus))
    with FlopCounterMode(display=False) as counter:
        model(ids, use_cache=False).logits.mean().backward()
    attention, causal = (n * shape.width * shape.layers * ids.numel() for n in (3 * 4 * LENGTH, 3 * 2 * (LENGTH + 1)))
    assert sum(planned_work.gradient(own, ids.numel(), 0).values()) - causal == counter.get_total_flops() - attention


def test_disk_is_what_a_run_writes(extent: Extent, made: Path) -> None:
    """With as many PCs as the run found, stage by stage; manifests and tables of a run so small are no small part."""
    pcs = len(read_table(made / "aux" / "accuracy.parquet"))
    expected = needs.disk(of(extent, "aux", pcs=pcs))
    arrays = {name: sum(p.stat().st_size for p in (made / name).rglob("*.npy")) for name in expected}
    headers = {name: 128 * len(list((made / name).rglob("*.npy"))) for name in expected}
    directions = (made / "taps" / "directions.safetensors").stat().st_size
    assert 0 <= arrays["taps"] - headers["taps"] + directions - expected["taps"] < 4000
    assert arrays["chi"] - headers["chi"] == expected["chi"] - needs.ROW_BYTES * extent.measured_rows
    assert arrays["upsampled"] - headers["upsampled"] == expected["upsampled"] - needs.ROW_BYTES * extent.predicted_rows
    weights = (made / "aux" / "model.safetensors").stat().st_size
    assert 0 <= weights - expected["aux"] < 2000
    assert 0.5 * expected["clusters"] < arrays["clusters"] - headers["clusters"] <= expected["clusters"]
    tokens = np.load(made / "corpus" / "tokens.npy")
    assert tokens.nbytes == 4 * extent.contexts * extent.length


def test_pcs_are_at_most_what_is_planned_for(extent: Extent, made: Path) -> None:
    assert 1 <= len(read_table(made / "aux" / "accuracy.parquet")) <= extent.pcs


@pytest.mark.parametrize("architecture", get_args(Architecture))
@pytest.mark.parametrize("base", ["ridge", "none"])
def test_numbers_of_an_auxiliary_model(architecture: Architecture, base: Any) -> None:
    shape = AuxShape(12, 12 if architecture == "linear" else 30, 5, architecture, base)
    assert needs.aux_parameters(shape) == sum(tensor.numel() for tensor in AuxModel(shape).state_dict().values())


@pytest.mark.parametrize(("rows", "inputs"), [(4000, 200), (600, 500)])
def test_memory_of_a_regression_is_what_it_asks_the_system_for(rows: int, inputs: int) -> None:
    rng = np.random.default_rng(0)
    pair = [ShardedRows([rng.standard_normal((rows, width), dtype=np.float32)]) for width in (inputs, 20)]
    tracemalloc.start()
    fit_ridge(pair[0], pair[1], np.arange(rows) < 50)
    asked = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert needs.regression_memory(rows, inputs + 20) == pytest.approx(asked, rel=0.25)


def test_memory_of_judging_and_comparing_follows_what_is_looked_at_at_once(extent: Extent) -> None:
    def of_stage(name: str, section: str, **settings: Any) -> int:
        return needs.memory(of(extent, section, **settings))[name].driver

    heldout = extent.config.corpus.heldout_contexts
    shards = [of_stage("aux", "taps", contexts_per_shard=count) for count in (1, 2, heldout, 2 * heldout)]
    assert shards[0] < shards[1] < shards[2] == shards[3]
    rows = extent.length - 1
    assert shards[1] - shards[0] == 8 * rows * (2 * extent.inputs + extent.hidden)
    more = of_stage("leakage", "cluster", k=20) - of_stage("leakage", "cluster", k=10)
    assert more >= needs.GRAPHS * 10 * 16 * extent.predicted_rows


@pytest.mark.parametrize("estimator", ["plain", "gaussian-gradient", "mean-gradient", "tangent-gradient"])
@pytest.mark.parametrize("responses", ["none", "column", "model"])
def test_twice_the_contexts_take_twice_as_long(extent: Extent, estimator: str, responses: str) -> None:
    """What is done for every token; sampling does not depend on how many are measured."""
    own = of(of(extent, "sgld", estimator=estimator, draws=4, step_size=1e-4), "taps", responses=responses)
    corpus = own.config.corpus
    more = of(own, "corpus", **{key: 2 * getattr(corpus, key) for key in
                                ("truth_contexts", "heldout_contexts", "upsample_contexts")})  # fmt: skip
    once, twice = planned(own), planned(more)
    for name in ("chi", "upsampled"):
        assert stage(twice, name).device_seconds == pytest.approx(2 * stage(once, name).device_seconds)
    assert stage(twice, "draws").device_seconds == stage(once, "draws").device_seconds
    taps, of_twice = (stage(planning, "taps").device_seconds for planning in (once, twice))
    drawn = stage(planned(of(own, "taps", direction_draws=16)), "taps").device_seconds
    if responses == "none":
        assert (drawn, of_twice) == (taps, pytest.approx(2 * taps))
    else:
        assert taps < drawn
        assert taps < of_twice < 2 * taps  # directions are found once


def test_what_one_process_does_has_the_cores_of_one_machine(extent: Extent) -> None:
    """Random sets alone: the rest is shared by all cores, or done with one."""
    near, apart = (plan(extent, Cluster(1, 12, machines), RATES) for machines in (1, 3))
    for one, other in zip(near.stages, apart.stages, strict=True):
        assert one.core_seconds == other.core_seconds
        assert {k for k in one.seconds if one.seconds[k] != other.seconds[k]} == (
            {"sets"} if one.name == "leakage" else set()
        )
    sets = stage(planned(extent), "leakage").seconds["sets"]
    assert stage(near, "leakage").seconds["sets"] == pytest.approx(sets / 12)
    assert stage(apart, "leakage").seconds["sets"] == pytest.approx(sets / 4)


def test_two_workers_halve_what_falls_into_items_and_nothing_else(extent: Extent) -> None:
    one, two = planned(extent, 1), plan(extent, Cluster(2, 1), RATES)
    for before, after in zip(one.stages, two.stages, strict=True):
        serial = before.core_seconds
        assert after.device_seconds == before.device_seconds
        if before.name in ("taps", "draws", "chi", "upsampled"):
            assert after.total - serial == pytest.approx((before.total - serial) / 2)
        else:
            assert after.total == before.total
    items = next(w for w in planned_work.stages(extent, 0.1) if w.name == "taps").items
    most, beyond = (plan(extent, Cluster(count, 1), RATES) for count in (items, 10 * items))
    assert stage(beyond, "taps").total == stage(most, "taps").total


def test_a_rate_says_how_long_its_kind_of_work_takes_and_no_other(extent: Extent) -> None:
    base = planned(extent)
    for kind in KINDS:
        faster = planned(extent, rates=replace(RATES, rates={**RATES.rates, kind: 2e9}))
        for before, after in zip(base.stages, faster.stages, strict=True):
            assert after.seconds.get(kind, 0) == pytest.approx(before.seconds.get(kind, 0) / 2)
            others = [before.seconds[name] == after.seconds[name] for name in before.seconds if name != kind]
            assert all(others)
        assert faster.seconds < base.seconds


def test_advice_is_a_plan_that_is_shorter(extent: Extent) -> None:
    dear = of(extent, "sgld", draws=1000, steps_between_draws=100)
    found = planned(dear, 64)
    assert found.longest.name == "draws"
    words, seconds = advice(found)
    assert "mean-gradient" in words
    cheaper = changed(dear, {"sgld": {"estimator": "mean-gradient", "draws": 16}, "probe": {"draws_per_document": 4}})
    assert seconds == planned(cheaper, 64).seconds < found.seconds


def test_files_of_rates_complete_each_other(tmp_path: Path) -> None:
    gpu = Rates("cuda", "a GPU", "data sheet", {"blocks": 5e13}, shape=SHAPE)
    written_rates(tmp_path / "gpu.json", gpu)
    written_rates(tmp_path / "cpu.json", RATES)
    both = joined([read_rates(tmp_path / name) for name in ("gpu.json", "cpu.json")])
    assert (both.device, both.rates["blocks"], both.rates["walks"]) == ("cuda", 5e13, 1e9)
    assert (both.shape, both.walks_per_point) == (SHAPE, 0.1)
    assert both.origin("blocks") == "a GPU, data sheet"
    assert both.origin("walks") == "a core, made up"
    assert "training" in missing(both), "a processor's rate is none of the GPU's"
    assert missing(joined([RATES])) == []


def answer(run_file: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(["plan", str(run_file), "--json", "--quiet", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_needs_no_weights_and_no_text(
    run_file: Path, extent: Extent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written_rates(tmp_path / "rates.json", RATES)
    folder = tmp_path / "only-config"
    folder.mkdir()
    source = Path(extent.config.model.path) / "config.json"
    (folder / "config.json").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    given = ("--model", str(folder), "--rates", str(tmp_path / "rates.json"), "--workers", "1", "--cores", "1")
    said = answer(run_file, *given, capsys=capsys)
    found = planned(extent)
    assert said["seconds"] == pytest.approx(found.seconds) == sum(stage["seconds"] for stage in said["stages"])
    assert said["model"]["parameters"] == extent.parameters
    assert main(["plan", str(run_file), "--quiet", *given]) == 0
    table = capsys.readouterr().out
    assert f"bounded by {found.longest.name}" in table
    assert all(stage.name in table for stage in found.stages)


def test_what_is_measured_is_written_and_read_again(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "loading", lambda: ({"start": 1.0, "training start": 1.0}, 2**29))
    rates = tmp_path / "rates.json"
    said = answer(run_file, "--measure", str(rates), capsys=capsys)
    assert set(read_rates(rates).rates) == set(KINDS)
    again = answer(run_file, "--rates", str(rates), capsys=capsys)
    assert again["stages"] == said["stages"]
    slower = json.loads(rates.read_text(encoding="utf-8"))
    slower["rates"]["blocks"] /= 10
    rates.write_text(json.dumps(slower), encoding="utf-8")
    assert answer(run_file, "--rates", str(rates), capsys=capsys)["seconds"] > said["seconds"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--workers", "2", "--gpus", "2"], "--workers and --gpus are two ways to say the same"),
        (["--rates", "{rates}", "--gpus", "2"], "--gpus: these rates are of a core, which is no GPU"),
        (["--rates", "{gpu}", "--workers", "2"], "--workers: these rates are of a GPU, a GPU"),
        (["--rates", "nowhere.json"], "--rates: nowhere.json does not exist; balmer plan RUN.yaml --measure"),
        (["--rates", "{bad}"], "has a rate of 'blokcs'; the kinds are blocks"),
        (["--rates", "{zero}"], "the rate of 'blocks' must be a number above 0, got 0"),
        (["--model", "/nowhere"], "model.path: /nowhere is not a folder"),
        (["--sgld.drawz", "3"], "sgld.drawz: no such key; did you mean sgld.draws?"),
        (["--measure", "a.json", "--rates", "b.json"], "--measure measures this machine"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(
    arguments: list[str], line: str, run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"rates": RATES, "gpu": replace(RATES, device="cuda", name="a GPU"),
             "bad": replace(RATES, rates={"blokcs": 1.0}), "zero": replace(RATES, rates={"blocks": 0})}  # fmt: skip
    for name, rates in files.items():
        written_rates(tmp_path / f"{name}.json", rates)
    given = [part.format(**{name: tmp_path / f"{name}.json" for name in files}) for part in arguments]
    assert main(["plan", str(run_file), "--quiet", *given]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_a_gpu_that_lacks_a_rate_is_not_given_a_processors(extent: Extent) -> None:
    gpu = Rates("cuda", "a GPU", "data sheet", {"blocks": 5e13})
    with pytest.raises(UserError, match="no rate of 'block gradients' for a GPU"):
        plan(replace(extent, device="cuda"), Cluster(), joined([gpu, RATES]))


def test_the_run_files_of_the_worked_example_are_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As docs/scaling.md gives the commands, from the root of the repository."""
    root = Path(__file__).parents[2]
    written_rates(tmp_path / "rates.json", RATES)
    for name in ("published", "mean-gradient"):
        settings = yaml.safe_load((root / "docs" / "plan" / f"{name}.yaml").read_text(encoding="utf-8"))
        model = str(root / settings["model"]["path"])
        given = ("--model", model, "--rates", str(tmp_path / "rates.json"))
        said = answer(root / "docs" / "plan" / f"{name}.yaml", *given, capsys=capsys)
        assert said["components"] == 410
        assert 1.41e9 < said["model"]["parameters"] < 1.42e9
        assert said["measured_rows"] == pytest.approx(6e6, rel=1e-3)
        assert said["predicted_rows"] == pytest.approx(46e6, rel=1e-3)
