"""The estimator `gaussian-gradient` on a model: against gradients and covariances taken the long way round."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import balmer
from conftest import VOCABULARY, make_model
from scale.chi.gradient_probe import source
from scale.chi.probe import Source, trained_losses
from scale.config import ProbeConfig, SGLDConfig
from scale.draws.chains import ChainKey, in_memory, trained_loss
from scale.draws.directions import DirectionGroup, point
from scale.draws.groups import group_of
from scale.errors import UserError
from scale.model.batches import Budget
from scale.model.components import Component, full, select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack, size_of

GENERATOR = np.random.default_rng(0)
TOKENS = torch.from_numpy(GENERATOR.integers(0, VOCABULARY, (3, 16)))
REFERENCE = torch.from_numpy(GENERATOR.integers(0, VOCABULARY, (6, 16)))
SAMPLER = SGLDConfig(
    estimator="gaussian-gradient", localization=20.0, chains=4, draws=16, reference_contexts=5, checkpoint_every=3
)
BUDGET = Budget(4096)
#: Few parameters, so that the plain estimator can be made exact enough to compare with.
SMALL = "gpt_neox.layers.1.post_attention_layernorm.weight"


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    return LanguageModel.wrap(make_model("gpt_neox"))


def component_of(language_model: LanguageModel, name: str) -> Component:
    if name == "full":
        return full(language_model.model)
    return select(language_model.model, language_model.architecture, [name])[0]


def keys_of(component: Component, settings: SGLDConfig = SAMPLER) -> list[ChainKey]:
    return [ChainKey(component, chain) for chain in range(settings.chains)]


def source_of(language_model: LanguageModel, name: str, settings: SGLDConfig = SAMPLER) -> Source:
    component = component_of(language_model, name)
    pool = Tail.at(language_model, REFERENCE, component.start)
    chains = in_memory(group_of(keys_of(component, settings), pool, settings, BUDGET))
    trained = trained_loss(pool.subset(torch.arange(settings.reference_contexts)), BUDGET)
    middle = settings.chains // 2
    numbers = (list(range(middle)), list(range(middle, settings.chains)))
    return source(component, (chains[:middle], chains[middle:]), numbers, trained, settings)


def measured(
    language_model: LanguageModel, pool: Source, half: int = 0, document: int = 0, **probing: Any
) -> tuple[np.ndarray, np.ndarray]:
    tail = Tail.at(language_model, TOKENS, pool.component.start)
    settings = ProbeConfig(**{"draws_per_document": 32, **probing})
    parts = pool.parts(tail, half, document, trained_losses(tail), settings, BUDGET)
    return parts.covariance, parts.shift


def long_way(language_model: LanguageModel, name: str, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Plain covariance and shift over many draws of N(w*, I/γ), and E[φ]."""
    component = component_of(language_model, name)
    size = size_of(component, language_model.parameters)
    measured, reference = (Tail.at(language_model, ids, component.start) for ids in (TOKENS, REFERENCE[:5]))
    half = torch.randn(count // 2, size, generator=torch.Generator().manual_seed(5)) * SAMPLER.localization**-0.5
    phi, losses = [], []
    for part in torch.cat([half, -half]).split(100):
        phi.append(reference.losses([Stack(component, part)]).double().mean(dim=(1, 2)).numpy())
        losses.append(measured.losses([Stack(component, part)]).double().flatten(1).numpy())
    values = np.concatenate(phi) - float(reference.losses().double().mean())
    delta = np.concatenate(losses) - measured.losses().double().flatten().numpy() - values[:, None]
    centred = values - values.mean()
    return centred @ delta / len(values), delta.mean(axis=0), float(values.mean())


@pytest.mark.parametrize("name", ["l1h1", "l2 mlp", "embed", "unembed", SMALL])
def test_a_direction_is_the_gradient_where_its_seed_says(language_model: LanguageModel, name: str) -> None:
    component = component_of(language_model, name)
    tail = Tail.at(language_model, REFERENCE, component.start)
    settings = replace(SAMPLER, draws=4, chains=2)
    chains = in_memory(DirectionGroup(keys_of(component, settings), tail, settings, Budget(100)))
    size = size_of(component, language_model.parameters)
    for number, chain in enumerate(chains):
        for draw in range(4):
            x = (-1) ** draw * point(component.name, number, draw // 2, size, settings, "cpu")
            assert float(x.norm()) == pytest.approx((size / 20) ** 0.5, rel=0.5)
            leaf = x[None].requires_grad_()
            loss = tail.minibatch_means(torch.arange(5)[None], [Stack(component, leaf)])
            (slope,) = torch.autograd.grad(loss.sum(), leaf)
            found = torch.from_numpy(np.asarray(chain.offsets[draw]))
            assert chain.loss[draw] == pytest.approx(float(loss.detach()), abs=1e-5)
            assert float((found**2).mean()) == pytest.approx(1, rel=1e-3)
            found = found * (chain.trace[draw] / size**0.5)
            assert torch.allclose(found, slope[0] / 20, rtol=1e-2, atol=1e-4 * float(slope.abs().max()))
    assert not np.allclose(chains[0].offsets[0], chains[1].offsets[0])
    assert not np.allclose(chains[0].offsets[0], chains[0].offsets[1])


def test_it_estimates_what_the_plain_one_does(language_model: LanguageModel) -> None:
    """Over all draws and many Y, beside the plain covariance of 6,000 draws of the same Gaussian."""
    covariance, shift, mean_phi = long_way(language_model, SMALL, 6000)
    pool = source_of(language_model, SMALL, replace(SAMPLER, draws=64))
    found = [measured(language_model, pool, half, document) for half in range(2) for document in range(16)]
    ours, moved = (np.mean(parts, axis=0) for parts in zip(*found, strict=True))
    assert pool.mean_phi == pytest.approx(mean_phi, rel=0.2)
    for mine, plain in ((ours, covariance), (moved, shift)):
        spread = plain - plain.mean()
        assert np.corrcoef(mine, plain)[0, 1] > 0.99
        assert (mine - mine.mean()) @ spread / (spread @ spread) == pytest.approx(1, abs=0.04)
        assert mine.mean() == pytest.approx(plain.mean(), abs=0.1 * plain.std())


def test_the_full_model_moves_tokens_as_plain_draws_do(language_model: LanguageModel) -> None:
    settings = replace(SAMPLER, localization=2000.0)
    pool = source_of(language_model, "full", settings)
    found = np.mean([measured(language_model, pool, 0, document)[1] for document in range(30)], axis=0)
    component, tail = pool.component, Tail(language_model, TOKENS, 0, None)
    x = torch.randn(400, size_of(component, language_model.parameters)) * 2000.0**-0.5
    moved = torch.cat([tail.losses([Stack(component, part)]).flatten(1) for part in x.split(40)]).double().numpy()
    shifts = moved - tail.losses().double().flatten().numpy()
    off = (shifts.mean(axis=0) - pool.mean_phi) - found
    error = shifts.std(axis=0) / 400**0.5
    assert np.abs(off / error).mean() < 1.3  # 0.8 for one Gaussian error alone, and ours adds to it
    assert found.std() > 3 * error.mean()


def test_a_token_takes_far_fewer_evaluations(language_model: LanguageModel) -> None:
    """Split-half correlation of an MLP's covariance at 16 evaluations a half: plain near 0, gradients near 1."""
    pool = source_of(language_model, "l1 mlp")
    halves = [measured(language_model, pool, half, 0, draws_per_document=16)[0] for half in range(2)]
    plain = []
    for half in range(2):
        component, size = pool.component, size_of(pool.component, language_model.parameters)
        tails = [Tail.at(language_model, ids, component.start) for ids in (TOKENS, REFERENCE[:5])]
        x = torch.randn(16, size, generator=torch.Generator().manual_seed(half)) * 20.0**-0.5
        losses, phi = (tail.losses([Stack(component, x)]).double().flatten(1).numpy() for tail in tails)
        centred = phi.mean(axis=1) - phi.mean()
        plain.append(centred @ losses / 15)
    assert np.corrcoef(*halves)[0, 1] > 0.85
    assert np.corrcoef(*plain)[0, 1] < 0.6


def test_documents_have_pairs_of_their_own_unless_shared(language_model: LanguageModel) -> None:
    pool = source_of(language_model, "l1h0")
    first, again, other = (measured(language_model, pool, 0, document)[0] for document in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    shared = [measured(language_model, pool, 0, document, draws="shared")[0] for document in (0, 1)]
    assert np.array_equal(*shared)


def test_batches_change_rounding_only(language_model: LanguageModel) -> None:
    pool = source_of(language_model, "l1h0")
    tail = Tail.at(language_model, TOKENS, 1)
    large, small = (
        pool.parts(tail, 0, 0, trained_losses(tail), ProbeConfig(draws_per_document=16), Budget(tokens)).covariance
        for tokens in (100000, 1)
    )
    assert np.allclose(large, small, atol=1e-3 * large.std())


@pytest.mark.parametrize("name", ["l1h1", "full"])
def test_killed_and_resumed(language_model: LanguageModel, name: str) -> None:
    component = component_of(language_model, name)
    pool = Tail.at(language_model, REFERENCE, component.start)
    whole, saved = in_memory(DirectionGroup(keys_of(component), pool, SAMPLER, BUDGET)), []
    kept = np.zeros((4, 16, 0 if name == "full" else size_of(component, language_model.parameters)), np.float32)

    def keep(index: int, draws: np.ndarray) -> None:
        kept[:, index] = draws

    group = DirectionGroup(keys_of(component), pool, SAMPLER, BUDGET)
    group.run(keep, lambda: saved.append(group.state()))
    assert [int(state["pairs"]) for state in saved] == [3, 6]
    late = kept[:, 12:].copy()
    kept[:, 12:] = np.nan
    resumed = DirectionGroup(keys_of(component), pool, SAMPLER, BUDGET)
    resumed.restore(saved[1])
    lengths = resumed.run(keep).numpy()
    assert np.array_equal(kept[:, 12:], late)
    assert np.array_equal(resumed.loss, np.stack([chain.loss for chain in whole]))
    assert np.array_equal(lengths, np.stack([chain.trace for chain in whole]))


def test_susceptibilities_of_a_model_in_memory() -> None:
    settings: dict[str, Any] = {
        "reference": REFERENCE.numpy(), "sampler": replace(SAMPLER, draws=24),
        "probe": ProbeConfig(draws_per_document=48),
    }  # fmt: skip
    found = balmer.susceptibilities(make_model("gpt_neox"), TOKENS, ["l1h0", "l2 mlp"], **settings)
    assert np.isfinite(found.chi).all()
    rows = {row["component"]: row for row in found.diagnostics.to_dicts()}
    assert set(rows) == {"l1h0", "l2 mlp", "full"}
    assert min(rows[name]["reliability_covariance"] for name in ("l1h0", "l2 mlp")) > 0.9
    assert np.allclose(found.llc, [30 * rows[name]["mean_phi"] for name in ("l1h0", "l2 mlp")])


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"^sgld\.draws must be even"):
        replace(SAMPLER, draws=15)
    with pytest.raises(UserError, match=r"^sgld\.localization must be positive"):
        replace(SAMPLER, localization=0.0)
    with pytest.raises(UserError, match=r"^probe\.draws_per_document must be a multiple of 4"):
        balmer.susceptibilities(
            make_model("gpt_neox"), TOKENS, ["l1h0"], reference=REFERENCE, sampler=SAMPLER,
            probe=ProbeConfig(draws_per_document=6),
        )  # fmt: skip


def test_a_posterior_too_wide_is_said_to_be() -> None:
    wide = replace(SAMPLER, localization=1e-3, runaway=2.0)
    with pytest.raises(UserError, match=r"^sampler\.localization: at 0\.001 .* use a larger sampler\.localization$"):
        balmer.susceptibilities(
            make_model("gpt_neox"), TOKENS, ["l1h0"], reference=REFERENCE, sampler=wide,
            probe=ProbeConfig(draws_per_document=8),
        )  # fmt: skip


def test_nothing_is_kept_of_the_full_model_but_its_loss(language_model: LanguageModel) -> None:
    tail = Tail(language_model, REFERENCE, 0, None)
    group = DirectionGroup(keys_of(full(language_model.model)), tail, SAMPLER, BUDGET)
    assert group.width == 0
    assert in_memory(group)[0].offsets.shape == (16, 0)
