"""The yardstick: what it counts as cost, what it makes of measurements, and that a grid goes on where it stopped."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPTNeoXForCausalLM

import benchmarks.estimators.measure as estimators
import zoo
from benchmarks.estimators.measure import REFERENCE, Yardstick, chosen_components, measure, rows
from benchmarks.estimators.measurement import Outcome, Text, of_draws, point, points, repetitions, shortened
from benchmarks.estimators.records import Records, read
from benchmarks.estimators.settings import COSTS, WITHOUT_NBETA, Sizes, held, ladder, settings_of
from benchmarks.estimators.table import table
from scale.chi.susceptibilities import Sampled, sample_components
from scale.config import ProbeConfig, SGLDConfig
from scale.errors import UserError
from scale.model.batches import Budget
from scale.model.language_model import LanguageModel

SIZES = Sizes(measured=3, reference=5)
OPTIONS = Namespace(
    most=4, chains=4, pool=2, reference_draws=4, reference_chains=4, estimators=[], reference_estimator="plain"
)


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    return LanguageModel.wrap(zoo.build("gpt_neox"))


@pytest.fixture(scope="module")
def contexts(language_model: LanguageModel) -> np.ndarray:
    size = language_model.model.config.vocab_size
    return np.random.default_rng(0).integers(0, size, (SIZES.measured + SIZES.reference, 8))


def gradients(chains: int, draws: int) -> SGLDConfig:
    return settings_of(300.0, 30.0, chains, draws, SIZES.reference)["gaussian-gradient"]


def sampled_head(language_model: LanguageModel, contexts: np.ndarray, settings: SGLDConfig) -> tuple[Sampled, Text]:
    (head,) = chosen_components(language_model, ["l1h0"])
    (sampled,) = sample_components(language_model, [head], contexts[SIZES.measured :], settings)
    return sampled, Text(language_model, contexts[: SIZES.measured], head.start, Budget(4096))


def test_costs_count_both_halves_and_the_sampling() -> None:
    every = settings_of(300.0, 30.0, chains=4, draws=6, reference=SIZES.reference)
    assert set(every) == set(COSTS) >= WITHOUT_NBETA
    # Six draws of four chains at five contexts, three passes each; four picked a half, two passes of three contexts.
    assert COSTS["gaussian-gradient"](every["gaussian-gradient"], 4, SIZES) == 6 * 4 * 5 * 3 + 2 * 4 * 2 * 3
    steps = 4 * (60 + 6 * 8)
    assert COSTS["plain"](every["plain"], 4, SIZES) == steps * 4 * 3 + 4 * 6 * 5 + 2 * 4 * 3
    assert ladder(32) == [2, 4, 8, 16, 32]
    assert ladder(31) == [2, 4, 8, 16]


@pytest.mark.parametrize("gamma", [30.0, 3000.0])
def test_a_chain_steps_as_far_wherever_it_is_held(gamma: float) -> None:
    """ε·γ·G/4 = 0.025, G being 1 / 0.1."""
    plain = settings_of(gamma, 10.0, 4, 2, 4)["plain"]
    assert plain.step_size * gamma / plain.rmsprop_stability / 4 == pytest.approx(0.025)
    assert (plain.localization, plain.nbeta) == (gamma, 10.0)


def test_a_half_holds_the_pool_of_what_a_context_picks() -> None:
    for picked, chains, pool in ((2, 4, 2), (8, 4, 2), (8, 4, 1), (2, 8, 1), (16, 2, 4)):
        draws = held(picked, chains, pool)
        assert draws % 2 == 0
        assert draws * chains // 2 >= pool * picked
        assert (draws - 2) * chains // 2 < pool * picked


def test_what_a_reliability_costs_is_what_it_takes_to_reach_it() -> None:
    """At r the extrapolation by Spearman and Brown asks for nine times (1 - r) / r as much for 0.9."""
    generator = np.random.default_rng(0)
    signal = generator.standard_normal(4000)
    found = point("shift", 4, 100.0, signal + generator.standard_normal((2, 4000)))
    assert found.pearson == pytest.approx(0.5, abs=0.05)
    assert found.cost_wanted is not None
    assert found.cost_wanted / found.cost == pytest.approx(9 * (1 - found.pearson) / found.pearson)
    both = np.stack([np.arange(9.0), np.arange(9.0) ** 3])
    assert point("shift", 4, 100.0, both).rank == pytest.approx(1)
    assert point("shift", 4, 100.0, both * [[1], [-1]]).cost_wanted is None


def test_a_shorter_chain_is_the_chain_that_stopped_earlier(language_model: LanguageModel, contexts: np.ndarray) -> None:
    """So the draws that are paid for at a step of the ladder are those that are used there."""
    for name in settings_of(300.0, 30.0, 4, 8, SIZES.reference):
        settings = settings_of(300.0, 30.0, 4, 8, SIZES.reference)[name]
        drawn, text = sampled_head(language_model, contexts, of_draws(settings))
        long = replace(drawn, settings=settings)
        short, _ = sampled_head(language_model, contexts, replace(settings, draws=4))
        probe = ProbeConfig(draws_per_document=8)
        for half in range(2):
            cut, whole = (text.measured(one, half, probe) for one in (shortened(long, 4), short.pool()))
            for part, values in cut.items():
                np.testing.assert_allclose(values, whole[part], rtol=1e-4, atol=1e-4 * whole[part].std())
        uncut = text.measured(shortened(long, 8), 0, probe)
        assert not np.allclose(uncut["shift"], text.measured(short.pool(), 0, probe)["shift"], rtol=1e-4)


def test_points_are_the_halves_at_each_number_of_draws(language_model: LanguageModel, contexts: np.ndarray) -> None:
    settings = gradients(4, held(4, 4, 2))
    sampled, text = sampled_head(language_model, contexts, settings)
    found = points(sampled, text, SIZES, most=4, pool=2)
    assert [(one.part, one.draws) for one in found] == [(p, n) for n in (2, 4) for p in ("covariance", "shift")]
    halves = [text.measured(sampled.pool(), half, ProbeConfig(draws_per_document=8)) for half in range(2)]
    expected = np.corrcoef(*(half["covariance"].ravel() for half in halves))[0, 1]
    assert found[2].pearson == pytest.approx(expected)
    assert found[2].cost == COSTS["gaussian-gradient"](settings, 4, SIZES)
    assert found[0].cost < found[2].cost


def test_repetitions_share_neither_draws_nor_what_is_drawn_afresh(
    language_model: LanguageModel, contexts: np.ndarray
) -> None:
    """The directions of all chains being made the same, their repetitions still differ: each has its own Y and α."""
    sampled, text = sampled_head(language_model, contexts, gradients(4, 4))
    found = repetitions(sampled, text, pool=1)
    assert found["covariance"].shape == (4, SIZES.measured, 7)
    assert np.abs(np.diff(found["covariance"], axis=0)).min() > 0
    copied = replace(sampled, chains=[sampled.chains[0]] * 4)
    again = repetitions(copied, text, pool=1)
    assert np.abs(np.diff(again["shift"], axis=0)).min() > 0


def test_each_context_is_a_document_of_its_own(language_model: LanguageModel, contexts: np.ndarray) -> None:
    sampled, _ = sampled_head(language_model, contexts, gradients(4, 8))
    same = np.repeat(contexts[:1], 2, axis=0)
    found = Text(language_model, same, sampled.component.start, Budget(4096)).measured(
        sampled.pool(), 0, ProbeConfig(draws_per_document=4)
    )
    assert not np.allclose(found["shift"][0], found["shift"][1], rtol=1e-6, atol=0)


class Counted(Yardstick):
    """Notes which estimators are sampled, and on which components."""

    def found(self, name, settings, components):  # type: ignore[no-untyped-def]
        before = set(self.known)
        found = super().found(name, settings, components)
        self.options.sampled += [(name, settings.nbeta, component) for _, component in set(self.known) - before]
        return found


def yardstick(language_model: LanguageModel, contexts: np.ndarray, names: list[str]) -> Counted:
    chosen = chosen_components(language_model, names)
    options = Namespace(**vars(OPTIONS), sampled=[])
    return Counted(options, language_model, contexts[: SIZES.measured], contexts[SIZES.measured :], chosen)


@pytest.fixture(scope="module")
def grid(
    language_model: LanguageModel, contexts: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Counted]:
    """Two heads of a layer at two nβ, begun and gone on with."""
    path = tmp_path_factory.mktemp("grid") / "results.jsonl"
    first = yardstick(language_model, contexts, ["l1h0"])
    measure(first, Records(path, {"model": "tiny"}), 300.0, 1.0)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"gamma": 300.0, "nbeta": 1.0, "compon')  # stopped while it wrote
    both = yardstick(language_model, contexts, ["l1h0", "l1h1"])
    for nbeta in (1.0, 30.0):
        measure(both, Records(path, {"model": "tiny"}), 300.0, nbeta)
    return path, both


def test_a_grid_goes_on_where_it_stopped(grid: tuple[Path, Counted]) -> None:
    path, both = grid
    records = read(path)[1]
    assert [(r["nbeta"], r["component"]) for r in records] == [(n, h) for n in (1.0, 30.0) for h in ("l1h0", "l1h1")]
    sampled = both.options.sampled
    for name in ("plain", REFERENCE):
        cells = sorted((nbeta, component) for one, nbeta, component in sampled if one == name)
        assert cells == [(1.0, "l1h1"), (30.0, "l1h0"), (30.0, "l1h1")]
    before = path.read_text(encoding="utf-8")
    measure(both, Records(path, {"model": "tiny"}), 300.0, 30.0)
    assert path.read_text(encoding="utf-8") == before


def test_what_does_not_depend_on_nbeta_is_the_same_in_all_cells_but_for_its_tilt(grid: tuple[Path, Counted]) -> None:
    path, both = grid
    low, high = (next(r for r in read(path)[1] if (r["nbeta"], r["component"]) == (n, "l1h1")) for n in (1.0, 30.0))
    assert sorted(head for name, _, head in both.options.sampled if name == "gaussian-gradient") == ["l1h0", "l1h1"]

    def of(record: dict, estimator: str) -> list[dict]:
        return [row for row in record["points"] if row["estimator"] == estimator]

    for one, other in zip(of(low, "gaussian-gradient"), of(high, "gaussian-gradient"), strict=True):
        assert other["tilt"] == pytest.approx(30 * one["tilt"])
        assert {**one, "tilt": 0} == {**other, "tilt": 0}
    assert of(low, "plain")[0]["pearson"] != of(high, "plain")[0]["pearson"]


def test_a_component_measured_alone_is_measured_the_same(grid: tuple[Path, Counted]) -> None:
    """l1h0 was alone in the first cell, and beside l1h1 in the second."""
    first, second = (
        [row for row in record["points"] if row["estimator"] == "gaussian-gradient"]
        for record in read(grid[0])[1]
        if record["component"] == "l1h0"
    )
    for key in ("pearson", "rank", "mean_phi", "cost"):
        assert [row[key] for row in first] == pytest.approx([row[key] for row in second], rel=1e-3)


def test_a_record_has_a_row_for_everything(grid: tuple[Path, Counted]) -> None:
    for record in read(grid[0])[1]:
        names = {(r["estimator"], r["part"], r["draws"]) for r in record["points"]}
        assert names == {(e, p, n) for e in COSTS for p in ("covariance", "shift") for n in (2, 4)}
        agreements = {(r["estimator"], r["part"]) for r in record["agreement"]}
        assert agreements == {(e, p) for e in COSTS for p in ("covariance", "shift")}
        assert record["failures"] == {}


def test_the_table_names_every_row_at_the_most_draws(grid: tuple[Path, Counted]) -> None:
    records = read(grid[0])[1][:2]
    lines = table(300.0, 1.0, records).splitlines()
    assert lines[0] == "γ 300, nβ 1"
    assert len(lines) == 2 + 2 * 2 * len(COSTS)
    shown = records[0]["points"][-1]
    line = next(one for one in lines if one.startswith("l1h0") and "shift" in one and shown["estimator"] in one)
    assert f"{shown['pearson']:.3f}" in line
    assert f"{shown['cost']:,.0f}" in line


def test_a_component_that_diverged_is_said_and_does_not_stop_the_rest() -> None:
    outcome = Outcome(np.array([1.0, 3.0]), [point("shift", 2, 9.0, np.array([[0.0, 1, 2], [0, 1, 3]]))], {})
    found = rows({"plain": "4 of 4 chains diverged", "gaussian-gradient": outcome, REFERENCE: outcome}, 10.0)
    assert found["failures"] == {"plain": "4 of 4 chains diverged"}
    assert [row["estimator"] for row in found["points"]] == ["gaussian-gradient"]
    assert (found["points"][0]["tilt"], found["points"][0]["mean_phi"]) == (10.0, 2.0)
    assert found["agreement"] == []
    record = {"component": "l0h0", **found}
    assert table(1.0, 1.0, [record]).splitlines()[-1].split(maxsplit=1) == ["l0h0", "plain: 4 of 4 chains diverged"]
    lines = table(1.0, 1.0, [record, {**record, "component": "a.parameter.with.a.name"}]).splitlines()
    assert [lines[row].index("shift") for row in (2, 4)] == [lines[1].index("part")] * 2


def test_a_file_of_another_measurement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    Records(path, {"most": 4, "model": "demo"}).add({"gamma": 1.0, "nbeta": 2.0, "component": "embed", "x": np.inf})
    again = Records(path, {"most": 4, "model": "demo"})
    assert (1.0, 2.0, "embed") in again
    assert (1.0, 2.0, "unembed") not in again
    assert again.found[0]["x"] is None
    with pytest.raises(UserError, match=r"another measurement \(most was 4\)"):
        Records(path, {"most": 8, "model": "demo"})
    path.write_text(json.dumps({"points": []}) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="not a file of"):
        Records(path, {"most": 4})


def test_mlps_without_weights_are_no_components() -> None:
    model = zoo.build("gpt_neox")
    assert isinstance(model, GPTNeoXForCausalLM)
    whole = LanguageModel.wrap(model)
    names = [one.name for one in chosen_components(whole, ["heads", "mlps"])]
    with torch.no_grad():
        for parameter in model.gpt_neox.layers[0].mlp.parameters():
            parameter.zero_()
    assert [one.name for one in chosen_components(whole, ["heads", "mlps"])] == [n for n in names if n != "l0 mlp"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"chains": 3}, "--chains"), ({"reference_chains": 2}, "--reference-chains"), ({"most": 1}, "--most")],
)
def test_mistakes_are_named_before_any_work(changed: dict[str, int], said: str) -> None:
    estimators.check(OPTIONS)
    with pytest.raises(UserError, match=said):
        estimators.check(Namespace(**{**vars(OPTIONS), **changed}))
