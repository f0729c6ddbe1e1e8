"""The stages `draws` and `chi` on a small run: how the work is cut changes nothing, and one failure stops nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

from conftest import VOCABULARY
from scale.chi import pools
from scale.chi import stage as chi
from scale.chi.estimate import reliability
from scale.chi.probe import probe_document
from scale.chi.susceptibilities import sample_components
from scale.config import CorpusConfig, ModelConfig, ProbeConfig, SGLDConfig
from scale.corpus import stage as corpus
from scale.draws import stage as draws
from scale.engine import Engine, Item, LocalEngine, Workspace
from scale.errors import UserError
from scale.model.components import full, select
from scale.model.language_model import load_language_model
from scale.progress import Progress, Silent
from scale.store import Manifest, Shards, read_manifest, read_table, shard_path, write_manifest

from spoiled import spoil  # isort: skip

SAMPLER = SGLDConfig(
    components=("l0h0", "l1h1", "l1 mlp", "unembed"),
    step_size=1e-4, chains=4, burn_in=2, draws=8, steps_between_draws=1, batch_contexts=2, pool_contexts=8,
    reference_contexts=4,
)  # fmt: skip
PROBE = ProbeConfig(draws_per_document=8, documents_per_shard=3)


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Backwards(LocalEngine):
    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        super().run(items[::-1], folder, label, progress)


class Run:
    """Stages made one by one in a folder."""

    def __init__(self, place: Path, model: Path, text: Path) -> None:
        self.place, self.model = place, ModelConfig(path=str(model), device="cpu")
        self.text, self.heard = text, Heard()

    def make(
        self, stage: str, maker: Any, inputs: dict[str, Path], *settings: Any, engine: Engine | None = None
    ) -> Any:
        folder = self.place / stage
        folder.mkdir()
        self.heard = Heard()
        facts = maker(Workspace(folder, inputs, engine or LocalEngine(), self.heard), self.model, *settings)
        write_manifest(folder, Manifest(stage, {}, {}, facts))
        return facts

    def corpus(self) -> None:
        settings = CorpusConfig(
            path=str(self.text), context_length=24, contexts_per_document=3, truth_contexts=14, heldout_contexts=6,
            upsample_contexts=3,
        )  # fmt: skip
        self.make("corpus", corpus.make, {}, settings)

    def draws(self, name: str = "draws", settings: SGLDConfig = SAMPLER) -> Any:
        return self.make(name, draws.make, {"corpus": self.place / "corpus"}, settings)

    def chi(
        self,
        name: str,
        settings: ProbeConfig = PROBE,
        drawn: str = "draws",
        engine: Engine | None = None,
        sampler: SGLDConfig = SAMPLER,
    ) -> Any:
        inputs = {"corpus": self.place / "corpus", "draws": self.place / drawn}
        return self.make(name, chi.make, inputs, sampler, settings, engine=engine)

    def parts(self, name: str) -> dict[str, np.ndarray]:
        return {key: Shards(self.place / name).stack(key) for key in (*chi.PARTS, "loss")}

    def table(self, name: str) -> polars.DataFrame:
        return read_table(self.place / name / "components.parquet")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, text_folder: Path) -> Run:
    found = Run(tmp_path_factory.mktemp("chi"), model_folder, text_folder)
    found.corpus()
    found.draws()
    found.chi("chi")
    return found


def numbers(table: polars.DataFrame) -> np.ndarray:
    return table.select(polars.col(polars.Float64)).to_numpy()


@pytest.mark.parametrize(
    ("documents", "engine"), [(1, LocalEngine()), (2, Backwards()), (100, LocalEngine()), (3, LocalEngine(2))]
)
def test_shards_their_number_and_order_change_nothing(run: Run, documents: int, engine: Engine) -> None:
    """The same evaluation: the same bits. Sums over shards: the same to 1e-10."""
    name = f"chi-{documents}-{type(engine).__name__}"
    run.chi(name, replace(PROBE, documents_per_shard=documents), engine=engine)
    assert len(Shards(run.place / name).names) != len(Shards(run.place / "chi").names) or documents == 3
    expected = run.parts("chi")
    for key, found in run.parts(name).items():
        assert np.array_equal(found, expected[key]), key
    assert np.allclose(numbers(run.table(name)), numbers(run.table("chi")), rtol=1e-10, atol=0, equal_nan=True)


def test_the_batch_changes_rounding_only(run: Run) -> None:
    """Float32 losses near 6 nats are rounded otherwise in other batches, by up to 4e-6."""
    expected, model = run.parts("chi"), run.model
    run.model = replace(model, batch_tokens=30)
    run.chi("chi-small-batches")
    run.model = model
    found = run.parts("chi-small-batches")
    spread = max(np.ptp(row) for row in phi_of(run))
    for key, rounding in (("loss", 4e-6), ("shift", 4e-6), ("full", 4e-6), ("covariance", 4e-6 * spread)):
        assert np.allclose(found[key], expected[key], rtol=0, atol=rounding), key
    assert np.abs(expected["covariance"]).max() > 100 * 4e-6 * spread


def phi_of(run: Run) -> list[np.ndarray]:
    trained = read_manifest(run.place / "draws").facts["trained_loss"]
    chains = read_table(run.place / "draws" / "chains.parquet")
    return [draws.read_draws(run.place / "draws", row).loss - trained for row in chains.to_dicts()]


def test_the_table_of_components(run: Run) -> None:
    table, truth = run.table("chi"), chi.read_ground_truth(run.place / "chi", "two-chain")
    alone = chi.read_ground_truth(run.place / "chi", "covariance")
    assert table["component"].to_list() == list(SAMPLER.components)
    assert np.allclose(table["reliability"], reliability(truth.halves), rtol=1e-6)
    assert np.allclose(table["reliability_covariance"], reliability(alone.halves), rtol=1e-6)
    assert np.allclose(table["share_covariance"] + table["share_shift"], 1)
    shares = [np.cov(alone.chi[:, c], truth.chi[:, c])[0, 1] / truth.chi[:, c].var(ddof=1) for c in range(4)]
    assert np.allclose(table["share_covariance"], shares)
    phi = np.array(phi_of(run)[:4])  # the chains of the first component
    assert np.allclose(table["mean_phi"][0], phi.mean())
    assert np.allclose(table["llc"][0], 30 * phi.mean())
    assert np.allclose(table["llc_error"][0], 30 * phi.mean(axis=1).std(ddof=1) / 2)
    assert table["draws"].to_list() == [32] * 4
    assert np.isfinite(table.select("rhat", "ess", "autocorrelation_time", "lag1").to_numpy()).all()


def test_the_table_of_chains(run: Run) -> None:
    import arviz

    table = read_table(run.place / "draws" / "chains.parquet")
    for row in table.to_dicts():
        loss = draws.read_draws(run.place / "draws", row).loss
        assert row["ess"] == pytest.approx(float(arviz.ess(loss[None])))
        assert row["autocorrelation_time"] == pytest.approx(8 / float(arviz.ess(loss[None], method="mean")))
        assert row["lag1"] == pytest.approx(float(arviz.autocorr(loss)[1]))
        assert row["rhat"] == pytest.approx(float(arviz.rhat(loss.reshape(2, 4))))


def test_equal_contexts_are_counted_and_said_once(run: Run, tmp_path: Path) -> None:
    assert read_manifest(run.place / "chi").facts["duplicates"] == duplicates(run, "chi")
    other = Run(tmp_path, Path(run.model.path), run.text)
    other.corpus()
    path = tmp_path / "corpus" / "tokens.npy"
    tokens, contexts = np.load(path), read_table(tmp_path / "corpus" / "contexts.parquet")
    twice = contexts.filter(polars.col("split") == "truth").group_by("document", maintain_order=True).agg("context")
    first, second = next(row for row in twice["context"].to_list() if len(row) > 1)[:2]
    tokens[second] = tokens[first]
    np.save(path, tokens)
    other.draws()
    facts = other.chi("chi")
    assert facts["duplicates"] == duplicates(other, "chi") >= 2 * 23
    said = [line for line in other.heard.lines if "measured twice" in line]
    assert said == [
        f"  {facts['duplicates']} of 460 tokens have the very vector of another: the same text, measured twice"
    ]


def duplicates(run: Run, name: str) -> int:
    parts = run.parts(name)
    rows = np.concatenate([parts[key].reshape(len(parts["loss"]), -1) for key in ("covariance", "shift")], axis=1)
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    return int(counts[counts > 1].sum())


def test_a_component_that_fails_is_named_and_costs_no_other(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda key: key.component.name == "l1h1" and key.chain < 2)
    run.draws("draws-spoiled")
    assert run.heard.lines == [f"  chain {chain} of l1h1 diverged and is left out" for chain in range(2)]
    facts = run.chi("chi-spoiled", drawn="draws-spoiled")
    assert facts["failed"] == ["l1h1"]
    assert "  l1h1: too few chains survived; it has no susceptibilities" in run.heard.lines
    assert run.table("chi-spoiled")["component"].to_list() == ["l0h0", "l1 mlp", "unembed"]
    found, expected = run.parts("chi-spoiled"), run.parts("chi")
    for key in ("covariance", "shift"):
        assert np.array_equal(found[key], expected[key][..., [0, 2, 3]]), key


def test_one_chain_less_is_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda key: key.component.name == "l1h1" and key.chain == 3)
    run.draws("draws-one")
    facts = run.chi("chi-one", drawn="draws-one")
    assert facts["failed"] == []
    assert run.table("chi-one")["excluded_chains"].to_list() == [0, 1, 0, 0]
    assert run.table("chi-one")["draws"].to_list() == [32, 24, 32, 32]


def test_no_component_that_could_be_measured(run: Run) -> None:
    wild = replace(SAMPLER, components=("l0h0", "l1 mlp"), sampler="sgld", step_size=10.0)
    with pytest.raises(
        UserError, match=r"^sgld.step_size: every chain diverged at 10; 0\.\d+ did not, in a short trial "
    ):
        run.draws("draws-wild", wild)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("full", "the chains of the full model diverged at 0.0001; "),
        ("", "chains of every component diverged at 0.0001; "),
    ],
)
def test_too_few_chains_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    spoil(monkeypatch, lambda key: (key.component.name == name) or (not name and key.chain < 2))
    with pytest.raises(UserError, match=f"^sgld.step_size: {said}"):
        run.draws(f"draws-without-{name or 'any'}")


def test_a_draw_is_found_where_the_table_says(run: Run) -> None:
    table = read_table(run.place / "draws" / "chains.parquet")
    for row in table.to_dicts():
        place = shard_path(run.place / "draws", row["shard"])
        assert np.load(place / "loss.npy")[row["place"]].mean() == row["mean_loss"]
        assert (place / draws.chain_file(row["component"], row["chain"])).is_file()


def compute_of(run: Run, name: str) -> Any:
    return read_manifest(run.place / name).facts["compute"]


def test_what_it_took_is_that_of_its_parts(run: Run) -> None:
    """Of 20 contexts of 24 tokens: 8 draws each; 4 chains of 10 steps of 2 contexts, three passes a gradient, and of L
    on 4 contexts at 8 draws. A head of block 0, two components of block 1 of 3, the unembedding, and the model."""
    model = load_language_model(run.model).model
    block = sum(p.numel() for name, p in model.named_parameters() if "layers.2." in name)
    top = VOCABULARY * 32
    whole = 3 * block + top
    passes = 1 + 2 * (2 * block + top) / whole + top / whole + 1
    found = compute_of(run, "chi")
    assert found["operations"] == 2 * whole
    assert found["probing"] == pytest.approx(passes * 8 * 20 * 24)
    assert found["sampling"] == pytest.approx(passes * 4 * (10 * 3 * 2 + 8 * 4) * 24)


@pytest.mark.parametrize("estimator", ["gaussian-gradient", "mean-gradient", "tangent-gradient"])
def test_gradients_through_the_stages_are_those_in_memory(run: Run, estimator: str) -> None:
    """Draws in half precision on disk; the same seeds, pairs and Y as the library function takes."""
    sampler = replace(SAMPLER, estimator=estimator, localization=100.0, storage="float16", nbeta=1e-3, step_size=5e-3)
    drawn = f"draws-{estimator}"
    run.draws(drawn, sampler)
    facts = run.chi(f"chi-{estimator}", drawn=drawn, sampler=sampler)
    assert facts["estimator"] == estimator
    assert (
        facts["compute"]["probing"] == 2 * compute_of(run, "chi")["probing"]
    )  # a pair is two points, each taken twice
    assert bool(list((run.place / drawn).rglob("full*.safetensors"))) == (estimator == "tangent-gradient")
    language_model = load_language_model(run.model)
    rows = corpus.read_rows(run.place / "corpus", chi.MEASURED)
    document = int(rows.contexts["document"][0])
    tokens = rows.take(rows.contexts["document"].to_numpy() == document)
    reference = corpus.split_tokens(run.place / "corpus", "truth", sampler.pool_contexts)
    parts = select(language_model.model, language_model.architecture, sampler.components)
    sampled = sample_components(language_model, [*parts, full(language_model.model)], reference, sampler)
    *pools, everything = (one.pool() for one in sampled)
    expected = probe_document(language_model, tokens, document, pools, everything, PROBE).arrays()
    found = run.parts(f"chi-{estimator}")
    for key, value in expected.items():
        first = found[key][: len(value)]
        assert np.abs(value).max() > 0
        assert np.allclose(first, value, rtol=0, atol=5e-3 * value.std()), key
    table = run.table(f"chi-{estimator}")
    assert facts["bent"] == []
    assert table["tilt"].max() < chi.MOST_TILT
    assert (table["reliability_covariance"] > run.table("chi")["reliability_covariance"]).all()


def test_a_posterior_that_is_not_the_gaussian_is_named(run: Run) -> None:
    sampler = replace(SAMPLER, estimator="gaussian-gradient", localization=100.0, storage="float16", nbeta=1e3)
    run.draws("draws-bent", sampler)
    facts = run.chi("chi-bent", drawn="draws-bent", sampler=sampler)
    assert "l1 mlp" in facts["bent"]
    assert "l1 mlp" in next(line for line in run.heard.lines if "bends this posterior" in line)
    carried = replace(sampler, estimator="tangent-gradient", nbeta=1e-3, step_size=5e-3)
    assert run.draws("draws-carried", carried)
    heard = len(run.heard.lines)
    run.chi("chi-carried", drawn="draws-carried", sampler=replace(carried, nbeta=1e3))
    assert not any("bends this posterior" in line for line in run.heard.lines[heard:])


def test_gradients_that_have_little_in_common_are_named(run: Run) -> None:
    """Far from the trained weights; close to them, every gradient is the same."""
    for localization, named in ((0.3, True), (1e4, False)):
        sampler = replace(SAMPLER, estimator="mean-gradient", localization=localization, runaway=1e3, nbeta=1e-6)
        run.draws(f"draws-{localization}", sampler)
        heard = len(run.heard.lines)
        facts = run.chi(f"chi-{localization}", drawn=f"draws-{localization}", sampler=sampler)
        shares = run.table(f"chi-{localization}")["common_share"]
        assert (facts["partial"] != []) == named == (shares.min() < chi.LEAST_COMMON)
        assert any("of a gradient is common to all draws" in line for line in run.heard.lines[heard:]) == named
    assert shares.min() > 0.99
    assert run.table("chi")["common_share"].is_null().all()


def test_draws_that_another_device_would_not_make_again_are_refused(run: Run) -> None:
    facts = read_manifest(run.place / "draws").facts
    assert facts["device"] == "cpu"
    gradients = replace(SAMPLER, estimator="gaussian-gradient")
    with pytest.raises(UserError, match=r"^model\.device: the draws were made on cpu.* go on with model\.device: cpu$"):
        pools.check_device(facts, "cuda", gradients)
    pools.check_device(facts, "cpu", gradients)
    pools.check_device(facts, "cuda", SAMPLER)
