"""Bayesian influence against stored losses, and what must hold when queries are the training data."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from conftest import VOCABULARY, make_model
from eval.influence import CovarianceAccumulator, chain_covariance, context_losses, influence
from scale.config import SGLDConfig
from scale.draws.chains import ChainKey, draw_chains
from scale.errors import UserError
from scale.model.batches import Budget
from scale.model.components import Slots, select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack, size_of

DATA = np.random.default_rng(0).integers(0, VOCABULARY, (5, 14))
SAMPLER = SGLDConfig(step_size=1e-3, chains=2, burn_in=3, draws=12, steps_between_draws=1, batch_contexts=2)


def test_the_accumulator_is_numpys_covariance() -> None:
    left, right = np.random.default_rng(1).normal(size=(2, 40, 3)) + 1e5
    sums = CovarianceAccumulator(3, 3)
    for a, b in zip(left, right, strict=True):
        sums.update(a, b)
    assert np.allclose(sums.comoment / 39, np.cov(left.T, right.T)[:3, 3:], atol=1e-8)


def test_a_chain_against_stored_losses() -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    component = select(language_model.model, language_model.architecture, ["l1 mlp"])[0]
    ids = torch.from_numpy(DATA)
    tail = Tail.at(language_model, ids, component.start)
    (draws,) = draw_chains([ChainKey(component, 0)], tail, SAMPLER, Budget(256))
    found = chain_covariance(component, draws, tail.subset(torch.tensor([0, 1])), tail)
    slots = Slots(language_model.model, component)
    trained, stored = slots.read(), []
    for offset in draws.offsets:
        slots.write(trained + torch.from_numpy(offset))
        with torch.no_grad():
            logits = language_model.model(ids, use_cache=False).logits[:, :-1]
        losses = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        stored.append(losses.view(5, -1).double().mean(dim=1).numpy())
    slots.write(trained)
    expected = np.cov(np.array(stored).T)[:2] * (len(stored) - 1)
    assert np.abs(expected).max() > 1e-6
    assert np.allclose(found.comoment, expected, atol=0.02 * np.abs(expected).max())


def test_influence_is_of_chains_alone() -> None:
    with pytest.raises(UserError, match=r"^sampler\.estimator: influence is taken over chains"):
        influence(make_model("gpt_neox"), DATA, DATA, "l0 mlp", sampler=SGLDConfig(estimator="gaussian-gradient"))


def test_memory_that_runs_out_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that holds two contexts."""
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    component = select(language_model.model, language_model.architecture, ["l1 mlp"])[0]
    tail = Tail.at(language_model, torch.from_numpy(DATA), component.start)
    stack = Stack(component, 0.1 * torch.randn(1, size_of(component, language_model.parameters)))
    expected, plain, sizes = context_losses(tail, stack, Budget(1000)), Tail.losses, []

    def small(self: Tail, stacks: list[Stack]) -> torch.Tensor:
        sizes.append(len(self.tokens))
        if len(self.tokens) > 2:
            raise torch.OutOfMemoryError("no room")
        return plain(self, stacks)

    monkeypatch.setattr(Tail, "losses", small)
    assert np.allclose(context_losses(tail, stack, Budget(1000)), expected, atol=1e-6)
    assert sizes[0] == 5
    assert sizes[-3:] == [2, 2, 1]


def test_self_influence_is_minus_a_variance_and_the_matrix_is_symmetric() -> None:
    found = influence(make_model("gpt_neox"), DATA, DATA, "l0 mlp", sampler=SAMPLER)
    assert found.values.shape == (5, 5)
    assert np.diag(found.values).max() < 0
    assert np.allclose(found.values, found.values.T, atol=1e-6 * np.abs(found.values).max())
    assert found.excluded_chains == 0
    again = influence(make_model("gpt_neox"), DATA, DATA, "l0 mlp", sampler=SAMPLER)
    assert np.array_equal(found.values, again.values)


def test_chains_that_all_diverge_are_an_error() -> None:
    wild = SGLDConfig(
        sampler="sgld", step_size=10.0, chains=2, burn_in=0, draws=6, steps_between_draws=1, batch_contexts=2
    )
    with pytest.raises(UserError, match="too many chains diverged at step size 10"):
        influence(make_model("gpt_neox"), DATA, DATA, sampler=wild)
