"""The estimator `mean-gradient`: against gradients and their means taken the long way round."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import balmer
from conftest import VOCABULARY, make_model
from scale.chi.gradient_probe import source
from scale.chi.probe import subset_generator, trained_losses
from scale.chi.susceptibilities import Susceptibilities
from scale.config import ProbeConfig, SGLDConfig
from scale.draws.chains import ChainKey, in_memory, trained_loss
from scale.draws.directions import DirectionGroup
from scale.draws.gaussian import normal
from scale.draws.groups import group_of
from scale.draws.mean_gradient import MeanDirectionGroup, common_share
from scale.model.batches import Budget
from scale.model.components import Component, full, select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.unembedding import Unembedding
from scale.model.variants import Stack, size_of

GENERATOR = np.random.default_rng(0)
TOKENS = torch.from_numpy(GENERATOR.integers(0, VOCABULARY, (3, 16)))
REFERENCE = torch.from_numpy(GENERATOR.integers(0, VOCABULARY, (6, 16)))
SAMPLER = SGLDConfig(
    estimator="mean-gradient", localization=20.0, chains=4, draws=8, reference_contexts=5, checkpoint_every=1
)
BUDGET = Budget(4096)
COMPONENTS = ["l1h1", "l2 mlp", "embed", "gpt_neox.layers.1.post_attention_layernorm.weight"]


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    return LanguageModel.wrap(make_model("gpt_neox"))


def keys_of(language_model: LanguageModel, name: str) -> list[ChainKey]:
    (component,) = select(language_model.model, language_model.architecture, [name])
    return [ChainKey(component, chain) for chain in range(SAMPLER.chains)]


@pytest.mark.parametrize("name", COMPONENTS)
def test_what_is_kept_is_the_mean_of_the_draws_of_the_other_estimator(language_model: LanguageModel, name: str) -> None:
    keys = keys_of(language_model, name)
    pool = Tail.at(language_model, REFERENCE, keys[0].component.start)
    means = in_memory(MeanDirectionGroup(keys, pool, SAMPLER, BUDGET))
    draws = in_memory(DirectionGroup(keys, pool, replace(SAMPLER, estimator="gaussian-gradient"), BUDGET))
    width = size_of(keys[0].component, language_model.parameters)
    for mean, every in zip(means, draws, strict=True):
        each = every.trace[:, None] * np.asarray(every.offsets, np.float64) / width**0.5
        expected, pairs = each.mean(axis=0), each.reshape(4, 2, -1).mean(axis=1)
        assert mean.offsets.shape == (1, width)
        found = mean.trace[0] * np.asarray(mean.offsets[0], np.float64) / width**0.5
        assert np.allclose(found, expected, atol=1e-5 * np.abs(expected).max())
        assert np.allclose(mean.trace, [np.linalg.norm(expected), *np.linalg.norm(pairs, axis=1)], rtol=1e-4)
        assert np.array_equal(mean.loss, every.loss)
        assert np.linalg.norm(each[0] - expected) > 0.05 * np.linalg.norm(expected)


def test_the_share_that_draws_have_in_common() -> None:
    """Unbiased: the ends of its interval at any number of draws hold the share that vectors were made with."""
    generator = np.random.default_rng(0)
    common = generator.standard_normal(200)
    common /= np.linalg.norm(common)
    for count in (2, 5, 40):
        found = []
        for _ in range(400):
            own = common + generator.standard_normal((count, 200)) * 200**-0.5
            found.append(common_share(np.linalg.norm([own.mean(axis=0), *own], axis=1)))
        error = np.std(found) / 20
        assert np.mean(found) == pytest.approx(0.5, abs=4 * error + 0.003)
    assert np.isnan(common_share(np.array([1.0, 1.0])))


def slopes_at(tail: Tail, component: Component, offsets: torch.Tensor) -> torch.Tensor:
    """∇l_t at one point for every token (tokens, parameters), one backward pass each."""
    leaf = offsets[None].requires_grad_()

    def of_tokens(rows: torch.Tensor, targets: torch.Tensor, unembedding: Unembedding) -> torch.Tensor:
        return cross_entropy(rows[0] @ unembedding.weight.T, targets[0], reduction="none")

    losses = tail.evaluate([Stack(component, leaf)], None, of_tokens)
    return torch.stack([torch.autograd.grad(loss, leaf, retain_graph=True)[0][0] for loss in losses])


@pytest.mark.parametrize("name", ["l1h1", "l2 mlp"])
def test_it_is_the_mean_direction_times_the_mean_gradient_of_a_token(language_model: LanguageModel, name: str) -> None:
    """At the very points ±Y that the document drew, less what all tokens have in common."""
    component, settings = keys_of(language_model, name)[0].component, replace(SAMPLER, localization=200.0)
    width, probe = size_of(component, language_model.parameters), ProbeConfig(draws_per_document=8)
    pool = Tail.at(language_model, REFERENCE, component.start)
    chains = in_memory(group_of(keys_of(language_model, name), pool, settings, BUDGET))
    trained = trained_loss(pool.subset(torch.arange(5)), BUDGET)
    one = source(component, (chains[:2], chains[2:]), ([0, 1], [2, 3]), trained, settings)
    tail = Tail.at(language_model, TOKENS, component.start)
    baseline = trained_losses(tail)
    parts = one.parts(tail, 1, 7, baseline, probe, BUDGET)
    direction = sum(chain.trace[0] * chain.offsets[0].astype(np.float64) for chain in chains[2:]) / 2 / width**0.5
    seeds = subset_generator(component.name, 7, 1, probe).integers(2**62, size=2)
    ys = [200.0**-0.5 * normal(width, int(seed)) for seed in seeds]
    slopes = torch.stack([slopes_at(tail, component, sign * y) for y in ys for sign in (1, -1)]).double().mean(dim=0)
    expected = slopes.numpy() @ direction - np.concatenate([chain.loss for chain in chains]).var(ddof=1)
    assert np.abs(parts.covariance - expected).max() < 0.01 * expected.std()
    moved = torch.cat([tail.losses([Stack(component, torch.stack([y, -y]))]) for y in ys]).double().flatten(1)
    shift = moved.mean(dim=0).numpy() - baseline - one.mean_phi
    assert np.abs(parts.shift - shift).max() < 0.02 * shift.std()
    away = slopes_at(tail, component, torch.zeros(width)).double().numpy() @ direction
    assert np.abs(away - away.mean() - expected + expected.mean()).max() > 0.05 * expected.std()


def test_documents_have_points_of_their_own_unless_shared(language_model: LanguageModel) -> None:
    keys = keys_of(language_model, "l1h1")
    pool, tail = (Tail.at(language_model, ids, 1) for ids in (REFERENCE, TOKENS))
    chains = in_memory(group_of(keys, pool, SAMPLER, BUDGET))
    one = source(keys[0].component, (chains[:2], chains[2:]), ([0, 1], [2, 3]), 0.0, SAMPLER)

    def values(document: int, draws: Literal["per-document", "shared"]) -> np.ndarray:
        probe = ProbeConfig(draws_per_document=4, draws=draws)
        return one.parts(tail, 0, document, trained_losses(tail), probe, BUDGET).covariance

    assert np.array_equal(values(0, "per-document"), values(0, "per-document"))
    assert not np.array_equal(values(0, "per-document"), values(1, "per-document"))
    assert np.array_equal(values(0, "shared"), values(1, "shared"))


def susceptibilities(settings: SGLDConfig) -> Susceptibilities:
    return balmer.susceptibilities(
        make_model("gpt_neox"), TOKENS, ["l1h1", "l2 mlp"], reference=REFERENCE, sampler=settings,
        probe=ProbeConfig(draws_per_document=4), estimator="covariance",
    )  # fmt: skip


def test_it_is_better_measured_than_every_draw_by_itself() -> None:
    """Two evaluations of two points a half: halves hardly differ, and agree with those of the dearer estimator."""
    settings = replace(SAMPLER, localization=200.0)
    means, draws = (
        susceptibilities(replace(settings, estimator=name)) for name in ("mean-gradient", "gaussian-gradient")
    )
    assert (means.reliability > 0.98).all()
    assert ((1 - means.reliability) < (1 - draws.reliability) / 3).all()
    for column in range(2):
        assert np.corrcoef(means.chi[:, column], draws.chi[:, column])[0, 1] > 0.9 * draws.reliability[column] ** 0.5
    assert np.isfinite(means.diagnostics["mean_phi"].to_numpy()).all()


def test_killed_and_resumed(language_model: LanguageModel) -> None:
    keys = keys_of(language_model, "l1h1")
    pool = Tail.at(language_model, REFERENCE, 1)
    whole, saved = in_memory(MeanDirectionGroup(keys, pool, SAMPLER, BUDGET)), []
    group = MeanDirectionGroup(keys, pool, SAMPLER, BUDGET)
    group.run(lambda *_: None, lambda: saved.append({key: value.clone() for key, value in group.state().items()}))
    assert [int(state["pairs"]) for state in saved] == [1, 2, 3, 4]
    resumed, kept = MeanDirectionGroup(keys, pool, SAMPLER, BUDGET), []
    resumed.restore(saved[1])
    lengths = resumed.run(lambda index, units: kept.append((index, units)))
    assert [index for index, _ in kept] == [0]
    assert np.array_equal(kept[0][1], np.stack([chain.offsets[0] for chain in whole]))
    assert np.array_equal(lengths.numpy(), np.stack([chain.trace for chain in whole]))
    assert np.array_equal(resumed.loss, np.stack([chain.loss for chain in whole]))


def test_of_the_full_model_the_loss_alone_is_kept(language_model: LanguageModel) -> None:
    keys = [ChainKey(full(language_model.model), chain) for chain in range(4)]
    group = group_of(keys, Tail(language_model, REFERENCE, 0, None), SAMPLER, BUDGET)
    assert (type(group), group.width) == (DirectionGroup, 0)
