"""The estimator `tangent-gradient` on a model: against long chains, and against what it is made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import balmer
from conftest import make_model
from scale.chi.gradient_probe import source
from scale.chi.probe import Source, trained_losses
from scale.config import ProbeConfig, SGLDConfig
from scale.draws.chains import ChainKey, Draws, in_memory, trained_loss
from scale.draws.flow import TangentGroup, lags_of
from scale.draws.groups import group_of
from scale.errors import UserError
from scale.model.batches import Budget
from scale.model.components import Component, full, select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack, size_of

GENERATOR = torch.Generator().manual_seed(3)
REFERENCE = torch.randint(50, (12, 9), generator=GENERATOR)
TOKENS = torch.randint(50, (6, 9), generator=GENERATOR)
BUDGET = Budget(100_000)
#: A few weights, so that a long plain chain can tell.
SMALL = "gpt_neox.layers.2.post_attention_layernorm.weight"
SAMPLER = SGLDConfig(
    estimator="tangent-gradient", localization=20.0, nbeta=300.0, step_size=0.02, chains=4, draws=16, burn_in=10,
    batch_contexts=8, reference_contexts=12, pool_contexts=12, checkpoint_every=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    return LanguageModel.wrap(make_model("gpt_neox"))


def component_of(language_model: LanguageModel, name: str) -> Component:
    if name == "full":
        return full(language_model.model)
    return select(language_model.model, language_model.architecture, [name])[0]


def keys_of(component: Component, settings: SGLDConfig = SAMPLER) -> list[ChainKey]:
    return [ChainKey(component, chain) for chain in range(settings.chains)]


def drawn(language_model: LanguageModel, name: str, settings: SGLDConfig = SAMPLER) -> list[Draws]:
    component = component_of(language_model, name)
    pool = Tail.at(language_model, REFERENCE, component.start)
    return in_memory(TangentGroup(keys_of(component, settings), pool, settings, BUDGET))


def source_of(language_model: LanguageModel, name: str, settings: SGLDConfig = SAMPLER) -> Source:
    component, chains, middle = component_of(language_model, name), drawn(language_model, name, settings), 2
    trained = trained_loss(Tail(language_model, REFERENCE, 0, None), BUDGET)
    return source(component, (chains[:middle], chains[middle:]), ([0, 1], [2, 3]), trained, settings)


def measured(
    language_model: LanguageModel, pool: Source, half: int, document: int = 0, draws: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    tail = Tail.at(language_model, TOKENS, pool.component.start)
    parts = pool.parts(
        tail, half, document, trained_losses(tail), ProbeConfig(draws_per_document=draws, difference_step=0.1), BUDGET
    )
    return parts.covariance, parts.shift


def long_way(language_model: LanguageModel, settings: SGLDConfig, steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Plain covariance and shift over 150 chains of the same posterior, by full gradients and small steps; E[φ]."""
    component = component_of(language_model, SMALL)
    size = size_of(component, language_model.parameters)
    tails = [Tail.at(language_model, ids, component.start) for ids in (TOKENS, REFERENCE)]
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(150, size, generator=generator) * settings.localization**-0.5
    time = 0.05 / settings.localization
    phi, losses = [], []
    index = torch.arange(len(REFERENCE)).repeat(150, 1)
    for step in range(steps):
        leaf = x.requires_grad_()
        (slope,) = torch.autograd.grad(tails[1].minibatch_means(index, [Stack(component, leaf)]).sum(), leaf)
        noise = torch.randn(150, size, generator=generator)
        x = (x - time * (settings.nbeta * slope + settings.localization * x) + (2 * time) ** 0.5 * noise).detach()
        if step >= 60 and step % 10 == 0:
            phi.append(tails[1].losses([Stack(component, x)]).double().mean(dim=(1, 2)).numpy())
            losses.append(tails[0].losses([Stack(component, x)]).double().flatten(1).numpy())
    values = np.concatenate(phi) - float(tails[1].losses().double().mean())
    delta = np.concatenate(losses) - tails[0].losses().double().flatten().numpy() - values[:, None]
    centred = values - values.mean()
    return centred @ delta / len(values), delta.mean(axis=0), float(values.mean())


def slope_of(plain: np.ndarray, ours: np.ndarray) -> float:
    """Of ours on plain, over tokens."""
    spread = plain - plain.mean()
    return float(ours @ spread / (spread @ spread))


def test_it_estimates_what_long_chains_do(language_model: LanguageModel) -> None:
    """Where the loss bends the posterior: the Gaussian of the localisation has other covariances and another E[φ]."""
    covariance, shift, mean_phi = long_way(language_model, SAMPLER, 200)
    pool = source_of(language_model, SMALL, replace(SAMPLER, draws=64))
    found = [measured(language_model, pool, half, 0, 256) for half in range(2)]
    ours, moved = (np.mean(parts, axis=0) for parts in zip(*found, strict=True))
    assert pool.mean_phi == pytest.approx(mean_phi, rel=0.05)
    for mine, plain in ((ours, covariance), (moved, shift)):
        assert np.corrcoef(mine, plain)[0, 1] > 0.98
        assert slope_of(plain, mine) == pytest.approx(1, abs=0.07)
        assert mine.mean() == pytest.approx(plain.mean(), abs=0.2 * plain.std())
    free = source_of(language_model, SMALL, replace(SAMPLER, draws=32, nbeta=0.0))
    gaussian, _ = measured(language_model, free, 0, 0, 256)
    assert np.corrcoef(gaussian, covariance)[0, 1] < 0.95
    assert abs(free.mean_phi) < 0.1 * abs(mean_phi)


def test_without_a_loss_it_is_the_gaussian(language_model: LanguageModel) -> None:
    """The same covariances as `gaussian-gradient`, whose draws are others."""
    settings = replace(SAMPLER, nbeta=0.0, step_size=0.05, draws=64)
    tangent = measured(language_model, source_of(language_model, SMALL, settings), 0, 0, 256)[0]
    component = component_of(language_model, SMALL)
    other = replace(settings, estimator="gaussian-gradient")
    pool = Tail.at(language_model, REFERENCE, component.start)
    chains = in_memory(group_of(keys_of(component, other), pool, other, BUDGET))
    trained = trained_loss(Tail(language_model, REFERENCE, 0, None), BUDGET)
    gaussian = source(component, (chains[:2], chains[2:]), ([0, 1], [2, 3]), trained, other)
    expected = np.mean([measured(language_model, gaussian, 0, document, 256)[0] for document in range(4)], axis=0)
    assert np.corrcoef(tangent, expected)[0, 1] > 0.97
    assert slope_of(expected, tangent) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["l1h1", "l2 mlp", "embed", "unembed", "full"])
def test_a_chain_does_not_depend_on_those_beside_it(language_model: LanguageModel, name: str) -> None:
    component = component_of(language_model, name)
    pool, settings = Tail.at(language_model, REFERENCE, component.start), replace(SAMPLER, draws=4, nbeta=30.0)
    keys = keys_of(component)
    together = in_memory(TangentGroup(keys, pool, settings, BUDGET))
    alone = in_memory(TangentGroup(keys[2:3], pool, settings, Budget(60)))[0]
    for name_, tolerance in (("offsets", 1e-3), ("loss", 1e-4), ("trace", 1e-3)):
        mine, theirs = (np.asarray(getattr(one, name_)) for one in (alone, together[2]))
        assert mine.shape == theirs.shape
        assert np.allclose(mine, theirs, atol=tolerance * np.abs(theirs).max()), name_
    assert not np.allclose(together[2].offsets, together[3].offsets)


@pytest.mark.parametrize("name", ["l1h1", "full"])
def test_killed_and_resumed(language_model: LanguageModel, name: str) -> None:
    component = component_of(language_model, name)
    pool, settings = Tail.at(language_model, REFERENCE, component.start), replace(SAMPLER, nbeta=30.0)
    group, saved, kept = TangentGroup(keys_of(component), pool, settings, BUDGET), [], {}

    def keep(index: int, draws: np.ndarray) -> None:
        kept[index] = draws.copy()

    def checkpoint() -> None:
        saved.append({key: value.clone() for key, value in group.state().items()})

    whole = group.run(keep, checkpoint).numpy()
    assert [int(state["pairs"]) for state in saved] == [3, 6]
    assert sorted(kept) == list(range(group.rows))
    before = dict(kept)
    resumed = TangentGroup(keys_of(component), pool, settings, BUDGET)
    resumed.restore(saved[0])
    kept.clear()
    assert np.array_equal(resumed.run(keep).numpy(), whole)
    assert np.array_equal(resumed.loss, group.loss)
    assert min(kept) == 3 * group.rows // 8
    assert all(np.array_equal(before[index], draws) for index, draws in kept.items())


def test_chains_of_a_pair_go_opposite_ways(language_model: LanguageModel) -> None:
    chains = drawn(language_model, "l1h1", replace(SAMPLER, nbeta=0.0))
    points = np.asarray(chains[0].offsets).reshape(8, 2, 2, -1)[:, 0]
    assert np.allclose(points[:, 0], -points[:, 1])
    assert points.std() == pytest.approx(20.0**-0.5, rel=0.05)
    directions = np.asarray(chains[0].offsets).reshape(8, 2, 2, -1)[:, 1]
    assert (directions**2).mean(axis=-1) == pytest.approx(1, rel=1e-3)
    assert not np.allclose(directions[:, 0], -directions[:, 1], atol=0.1)


def test_every_chain_has_lags_of_its_own(language_model: LanguageModel) -> None:
    keys = keys_of(component_of(language_model, "l1h1"), replace(SAMPLER, chains=20))
    many = np.stack([lags_of(key, replace(SAMPLER, draws=32), 0.1) for key in keys])
    assert len({tuple(row) for row in many}) > 15
    assert many.mean() == pytest.approx(9, rel=0.1)


def test_the_shift_of_the_full_model_is_that_of_its_points(language_model: LanguageModel) -> None:
    settings = replace(SAMPLER, localization=2000.0, nbeta=30.0, step_size=5e-4)
    pool = source_of(language_model, "full", settings)
    tail = Tail(language_model, TOKENS, 0, None)
    _, moved = measured(language_model, pool, 1, 0, 64)
    points = torch.from_numpy(np.concatenate([chain.offsets for chain in drawn(language_model, "full", settings)[2:]]))
    losses = tail.losses([Stack(pool.component, points)]).flatten(1).double().numpy()
    expected = (losses - tail.losses().double().flatten().numpy()).mean(axis=0) - pool.phi[1].mean()
    assert np.allclose(moved, expected, atol=1e-4 * expected.std() + 1e-6)


def test_susceptibilities_of_a_model_in_memory() -> None:
    found = balmer.susceptibilities(
        make_model("gpt_neox"), TOKENS, ["l1h0", "l2 mlp"], reference=REFERENCE,
        sampler=replace(SAMPLER, nbeta=30.0, draws=24), probe=ProbeConfig(draws_per_document=48),
    )  # fmt: skip
    assert np.isfinite(found.chi).all()
    rows = {row["component"]: row for row in found.diagnostics.to_dicts()}
    assert min(rows[name]["reliability_covariance"] for name in ("l1h0", "l2 mlp")) > 0.9


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"^sgld\.draws must be even"):
        replace(SAMPLER, draws=15)
    with pytest.raises(UserError, match=r"^sgld\.step_size: 0\.1 with sgld\.localization 20 .* below 0\.1$"):
        replace(SAMPLER, step_size=0.1)


def test_a_step_too_large_is_said_to_be() -> None:
    with pytest.raises(UserError, match=r"^sampler\.step_size: every chain diverged at 0\.02; \S+ did not"):
        balmer.susceptibilities(
            make_model("gpt_neox"), TOKENS, ["unembed"], reference=REFERENCE,
            sampler=replace(SAMPLER, nbeta=3e5, runaway=0.5, draws=4), probe=ProbeConfig(draws_per_document=8),
            estimator="covariance",
        )  # fmt: skip
