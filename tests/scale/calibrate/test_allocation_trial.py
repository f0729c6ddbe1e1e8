"""Trials of estimators are small runs: the same numbers, and the passes that their costs say."""

from dataclasses import replace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

from conftest import VOCABULARY, make_model
from scale.calibrate.allocation_trial import along_chains, as_in_a_run, columns, short, tried
from scale.calibrate.trial import Bench
from scale.chi.estimate import Moments
from scale.chi.probe import probe_document
from scale.chi.susceptibilities import sample_components
from scale.config import CalibrateConfig, ProbeConfig, SGLDConfig, check_together
from scale.costs import METHODS, Work
from scale.draws.chains import ChainKey, draw_chains, stacks_of
from scale.errors import UserError
from scale.model.batches import Budget
from scale.model.components import FULL, full, select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.progress import SilentTask

CONFIG = CalibrateConfig(chains=2, allocation_draws=8)
SETTINGS = SGLDConfig(
    step_size=1e-4, nbeta=1.0, batch_contexts=2, burn_in=3, draws=4, steps_between_draws=2, reference_contexts=3
)
GRADIENT = replace(SETTINGS, estimator="gaussian-gradient")
TANGENT = replace(SETTINGS, estimator="tangent-gradient", step_size=0.6 / SETTINGS.localization, draws=20)
NAMES = ("l0h0", "l2 mlp")
CONTEXTS, LENGTH, PROBED = 6, 12, 3


@pytest.fixture(scope="module")
def bench() -> Bench:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    components = [*select(language_model.model, language_model.architecture, NAMES), full(language_model.model)]
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (CONTEXTS + PROBED, LENGTH)))
    return Bench(language_model, components, ids[:CONTEXTS], ids[CONTEXTS:], Budget(4096))


def test_every_estimator_has_its_costs_and_its_multiple() -> None:
    """What a run file may say is listed, and a document's draws come in the multiples that are checked."""
    assert set(METHODS) == set(get_args(get_type_hints(SGLDConfig)["estimator"]))
    for name, method in METHODS.items():
        changes: dict[str, Any] = {"estimator": name}
        settings = replace(SETTINGS, **changes)
        check_together(settings, ProbeConfig(draws_per_document=4 * method.multiple))
        if method.multiple > 2:
            with pytest.raises(UserError):
                check_together(settings, ProbeConfig(draws_per_document=4 * method.multiple + 2))


def test_gradients_are_measured_as_in_a_run(bench: Bench) -> None:
    trial, probe = short(GRADIENT, CONFIG), ProbeConfig(draws_per_document=8)
    found = as_in_a_run(bench, trial, probe, SilentTask())
    *parts, everything = sample_components(bench.language_model, bench.components, bench.pool.numpy(), trial)
    pools = [part.pool() for part in parts]
    for document in range(PROBED):
        tokens = bench.probe[[document]].numpy()
        expected = probe_document(bench.language_model, tokens, document, pools, everything.pool(), probe)
        for place, name in enumerate(NAMES):
            assert np.allclose(found[name].covariance[:, document], expected.covariance[:, :, place].T, atol=1e-6)
            assert np.allclose(found[name].shift[:, document], expected.shift[:, :, place].T, atol=1e-6)
        assert np.allclose(found[FULL].shift[:, document], expected.full.T, atol=1e-5)
    for place, name in enumerate(NAMES):
        assert found[name].tilt == pytest.approx(parts[place].statistics()["tilt"])


def test_chains_are_those_of_a_run_probed_after_their_burn_in(bench: Bench) -> None:
    trial = short(SETTINGS, CONFIG)
    found = along_chains(bench, trial, SilentTask())
    component = bench.components[1]
    pool, probe = (Tail.at(bench.language_model, ids, component.start) for ids in (bench.pool, bench.probe))
    keys = [ChainKey(component, chain) for chain in range(2)]
    trained = bench.trained(trial)
    for half, chain in enumerate(draw_chains(keys, pool, trial, bench.budget)):
        losses = [probe.losses(stacks_of(keys[:1], torch.from_numpy(draw[None]))) for draw in chain.offsets]
        phi, moments = chain.loss - trained.loss, Moments(PROBED * (LENGTH - 1))
        moments.update(phi, torch.cat(losses).flatten(1).numpy() - trained.probe - phi[:, None])
        expected, got = moments.result(), found[component.name]
        assert len(chain.loss) == 8
        assert np.allclose(got.covariance[half].ravel(), expected.covariance, atol=1e-7)
        assert np.allclose(got.shift[half].ravel(), expected.shift, atol=1e-5)


def test_the_part_that_a_run_uses_is_the_part_that_is_judged(bench: Bench) -> None:
    """χ of the covariance needs no full model; two-chain χ has its shift."""
    found = as_in_a_run(bench, short(GRADIENT, CONFIG), ProbeConfig(draws_per_document=8), SilentTask())
    alone = columns({name: found[name] for name in NAMES}, NAMES, "covariance")
    both = columns(found, NAMES, "two-chain")
    assert alone.shape == both.shape == (2, 2, PROBED, LENGTH - 1)
    assert np.array_equal(alone[0], -found["l0h0"].covariance)
    moved = found["l2 mlp"].mean_phi * (found["l2 mlp"].shift - found[FULL].shift)
    assert np.allclose(both[1], -found["l2 mlp"].covariance - moved)
    trial = tried(bench, GRADIENT, CONFIG, ProbeConfig(), "covariance", SilentTask())
    assert list(trial.tilts) == list(trial.seen) == list(NAMES)
    assert trial.agreement is not None
    assert trial.agreement.value == pytest.approx(np.median([one.value for one in trial.seen.values()]))
    full_too = tried(bench, GRADIENT, CONFIG, ProbeConfig(), "two-chain", SilentTask())
    assert list(full_too.tilts) == [*NAMES, FULL]


def test_chains_that_diverge_are_named(bench: Bench) -> None:
    wild = replace(SETTINGS, step_size=1e3)
    found = tried(bench, wild, CONFIG, ProbeConfig(), "covariance", SilentTask())
    assert found.refused.startswith("chains diverged in its trial: l0h0")
    assert found.agreement is None


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Tokens that go through changed weights, backward passes counted as two."""
    seen: list[float] = []
    losses, means = Tail.losses, Tail.minibatch_means

    def counted(self: Tail, stacks: Any = ()) -> torch.Tensor:
        seen.append(self.tokens.numel() * sum(len(stack.offsets) for stack in stacks))
        return losses(self, stacks)

    def counted_means(self: Tail, index: torch.Tensor, stacks: Any) -> torch.Tensor:
        seen.append(3 * index.numel() * self.tokens.shape[1])
        return means(self, index, stacks)

    monkeypatch.setattr(Tail, "losses", counted)
    monkeypatch.setattr(Tail, "minibatch_means", counted_means)
    return seen


@pytest.mark.parametrize("settings", [SETTINGS, GRADIENT, TANGENT], ids=["plain", "gradient", "tangent"])
@pytest.mark.parametrize("name", ["l0h0", FULL])
def test_costs_are_the_passes_that_happen(bench: Bench, passes: list[float], settings: SGLDConfig, name: str) -> None:
    """Of a run's own functions, sampling apart from probing."""
    component = next(c for c in bench.components if c.name == name)
    method, probe = METHODS[settings.estimator], ProbeConfig(draws_per_document=8)
    work = Work(PROBED * LENGTH, 3 * LENGTH, 2 * LENGTH, [1.0])
    (sampled,) = sample_components(bench.language_model, [component], bench.pool.numpy(), settings)
    chance = 0.1 if settings.estimator == "tangent-gradient" else 0.0  # how long a gradient is carried is drawn
    assert sum(passes) == pytest.approx(method.sampling(settings, work, name == FULL).cost, rel=chance)
    passes.clear()
    pool, other = (
        sampled.pool(),
        sample_components(bench.language_model, bench.components[:1], bench.pool.numpy(), settings),
    )
    passes.clear()
    pools, background = ([other[0].pool()], pool) if name == FULL else ([pool], None)
    probe_document(bench.language_model, bench.probe.numpy(), 0, pools, background, probe)
    columns_probed = 2 if name == FULL else 1
    assert sum(passes) == columns_probed * 8 * method.evaluations * work.measured
