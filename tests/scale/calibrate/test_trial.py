"""Chains that are watched are the chains that a run would draw, and their cost is counted as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import VOCABULARY, make_model
from scale.calibrate.criteria import Observed
from scale.calibrate.trial import Bench, observe, representative, trial_settings
from scale.config import CalibrateConfig, SGLDConfig
from scale.draws.chains import ChainKey, draw_chains, stacks_of, trained_loss
from scale.model.batches import Budget
from scale.model.components import full, select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.progress import SilentTask

CONFIG = CalibrateConfig(chains=2, steps=16, steps_between_draws=2)
SETTINGS = trial_settings(
    SGLDConfig(step_size=1e-4, batch_contexts=2, burn_in=7, draws=99, chains=6, reference_contexts=3), CONFIG
)
NAMES = ("l0h0", "l2h1", "l2 mlp", "unembed")


@pytest.fixture(scope="module")
def bench() -> Bench:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    components = [*select(language_model.model, language_model.architecture, NAMES), full(language_model.model)]
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (8, 12)))
    return Bench(language_model, components, ids[:6], ids[6:], Budget(4096))


@pytest.fixture(scope="module")
def observed(bench: Bench) -> dict[str, Observed]:
    return observe(bench, [SETTINGS], SilentTask())[0]


def test_trials_are_short_and_begin_at_the_trained_weights() -> None:
    assert (SETTINGS.chains, SETTINGS.burn_in, SETTINGS.draws, SETTINGS.total_steps) == (2, 0, 8, 16)


@pytest.mark.parametrize("name", [*NAMES, "full"])
def test_they_are_the_chains_of_a_run(bench: Bench, observed: dict[str, Observed], name: str) -> None:
    """Losses and traces are those of `draw_chains`; probe losses those of its draws; and one coordinate is x's."""
    component = next(c for c in bench.components if c.name == name)
    pool, probe = (Tail.at(bench.language_model, ids, component.start) for ids in (bench.pool, bench.probe))
    keys = [ChainKey(component, chain) for chain in range(2)]
    chains = draw_chains(keys, pool, SETTINGS, bench.budget)
    found = observed[name]
    assert np.allclose(found.loss, [chain.loss for chain in chains], atol=1e-6)
    assert np.allclose(found.trace, [chain.trace for chain in chains], atol=1e-6)
    last = torch.from_numpy(np.stack([chain.offsets[-1] for chain in chains]))
    expected = probe.losses(stacks_of(keys, last)).flatten(1)
    assert found.probe.shape == (2, 4, 2 * 11)
    assert np.allclose(found.probe[:, -1], expected, atol=1e-5)
    before_last = np.stack([chain.offsets[-2] for chain in chains])  # what the step after that draw began with
    assert np.allclose(found.square[:, -2], np.square(before_last).sum(axis=1), rtol=1e-4)
    assert found.parameters == before_last.shape[1]
    assert all(value in before_last[0] for value in found.watched[:, 0, -2].astype(np.float32))


def test_settings_together_are_settings_apart_however_they_are_batched(
    bench: Bench, observed: dict[str, Observed]
) -> None:
    other = replace(SETTINGS, step_size=3e-4)
    small = replace(bench, budget=Budget(24))  # a chain at a time
    both = observe(small, [other, SETTINGS], SilentTask())
    for name, expected in observed.items():
        for array in ("trace", "loss", "probe", "push", "square", "watched", "scale"):
            assert np.allclose(getattr(both[1][name], array), getattr(expected, array), rtol=1e-3, atol=1e-4)
        assert not np.allclose(both[0][name].square, expected.square, rtol=0.1)


def test_the_push_is_x_times_the_gradient(bench: Bench) -> None:
    """Along x the loss of a minibatch changes by x·∇L: here the whole pool is the minibatch, whatever is chosen."""
    one = replace(bench, pool=bench.pool[:1])
    found = observe(one, [replace(SETTINGS, batch_contexts=1)], SilentTask())[0]["l2 mlp"]
    component = next(c for c in bench.components if c.name == "l2 mlp")
    pool = Tail.at(bench.language_model, one.pool, component.start)
    key = ChainKey(component, 0)
    draws = draw_chains([key], pool, replace(SETTINGS, batch_contexts=1), bench.budget)[0].offsets
    x = torch.from_numpy(draws[2])[None].double().float()
    above, below = (float(pool.losses(stacks_of([key], x * (1 + h))).mean()) for h in (1e-2, -1e-2))
    assert found.push[0, 6] == pytest.approx((above - below) / 2e-2, rel=0.02)


def test_the_cost_is_that_of_its_parts(bench: Bench, observed: dict[str, Observed]) -> None:
    """16 steps x 3 passes x 2 contexts, 8 draws x 3 contexts, 4 probes x 2 contexts: 128 contexts of 12 a chain."""
    assert observed["full"].cost == pytest.approx(2 * 128 * 12)
    assert observed["l0h0"].cost == pytest.approx(2 * 128 * 12)
    blocks = [p.numel() for n, p in bench.language_model.parameters.items() if ".layers." in n]
    unembedding = 32 * VOCABULARY
    only_unembedding = unembedding / (sum(blocks) + unembedding)
    assert bench.language_model.share(3) == pytest.approx(only_unembedding)
    assert observed["unembed"].cost == pytest.approx(2 * 128 * 12 * only_unembedding)
    shares = [bench.language_model.share(start) for start in range(4)]
    assert shares[0] == 1
    assert np.allclose(np.diff(shares), -(1 - only_unembedding) / 3)


def test_trained_losses_are_the_model_s_own(bench: Bench) -> None:
    trained = bench.trained(SETTINGS)
    own = bench.language_model.model(bench.pool[:3], labels=bench.pool[:3]).loss.item()
    assert trained.loss == pytest.approx(own, abs=1e-5)
    assert trained.gain == pytest.approx(np.log(VOCABULARY) - own, abs=1e-5)
    assert trained.probe.mean() == pytest.approx(
        trained_loss(Tail(bench.language_model, bench.probe, 0, None), bench.budget)
    )


def test_components_across_depth() -> None:
    model = make_model("gpt_neox", num_hidden_layers=5)
    architecture = LanguageModel.wrap(model).architecture

    def chosen(*names: str) -> list[str]:
        return [c.name for c in representative(select(model, architecture, names))]

    assert chosen("all") == ["embed", "l0h0", "l0 mlp", "l2h0", "l2 mlp", "l4h0", "l4 mlp", "unembed"]
    assert chosen("heads") == ["l0h0", "l2h0", "l4h0"]
    assert chosen("l1h1", "l1 mlp", "l3h0") == ["l1h1", "l1 mlp", "l3h0"]
