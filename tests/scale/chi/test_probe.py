"""Measured parts against brute force: every loss of every draw stored, then plain numpy."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional

from conftest import VOCABULARY, make_model
from scale.chi.estimate import assemble
from scale.chi.probe import Pool, probe_document
from scale.config import ProbeConfig, SGLDConfig
from scale.draws.chains import ChainKey, Draws, draw_chains, trained_loss
from scale.model.batches import Budget
from scale.model.components import Component, Slots, full, select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack

GENERATOR = np.random.default_rng(0)
TOKENS = GENERATOR.integers(0, VOCABULARY, (3, 16))
REFERENCE = torch.from_numpy(GENERATOR.integers(0, VOCABULARY, (6, 16)))
SAMPLER = SGLDConfig(
    step_size=1e-4, chains=2, burn_in=3, draws=4, steps_between_draws=1, batch_contexts=2, reference_contexts=4
)
EVERYTHING = ProbeConfig(draws_per_document=8)  # all four draws of both chains: nothing left to chance


@pytest.fixture(scope="module")
def language_model() -> LanguageModel:
    return LanguageModel.wrap(make_model("gpt_neox"))


def two_chains(tail: Tail, component: Component, settings: SGLDConfig) -> list[Draws]:
    return draw_chains([ChainKey(component, chain) for chain in range(2)], tail, settings, Budget(1024))


def pool_of(language_model: LanguageModel, component: Component) -> Pool:
    tail = Tail.at(language_model, REFERENCE, component.start)
    chains = two_chains(tail, component, SAMPLER)
    trained = trained_loss(tail.subset(torch.arange(4)), Budget(64))
    return Pool(
        component,
        ([chains[0].offsets], [chains[1].offsets]),
        (chains[0].loss[None] - trained, chains[1].loss[None] - trained),
    )


@pytest.fixture(scope="module")
def pools(language_model: LanguageModel) -> list[Pool]:
    parts = select(language_model.model, language_model.architecture, ["l1h0", "l2 mlp", "unembed"])
    return [pool_of(language_model, part) for part in [*parts, full(language_model.model)]]


def stored_losses(
    language_model: LanguageModel, component: Component, offsets: np.ndarray, ids: torch.Tensor
) -> np.ndarray:
    """Token losses (draws, rows) by the plain full forward, one draw after another."""
    slots = Slots(language_model.model, component)
    trained, found = slots.read(), []
    for offset in [*offsets, None]:
        slots.write(trained if offset is None else trained + torch.from_numpy(np.array(offset)))
        with torch.no_grad():
            logits = language_model.model(ids, use_cache=False).logits[:, :-1]
        found.append(
            functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").double().numpy()
        )
    return np.stack(found)


def test_parts_equal_those_of_stored_traces(language_model: LanguageModel, pools: list[Pool]) -> None:
    measured = probe_document(language_model, TOKENS, 7, pools[:-1], pools[-1], EVERYTHING)
    ids = torch.from_numpy(TOKENS)
    for index, pool in enumerate(pools):
        for half in range(2):
            losses = stored_losses(language_model, pool.component, pool.offsets[half][0], ids)
            reference = stored_losses(language_model, pool.component, pool.offsets[half][0], REFERENCE[:4]).mean(axis=1)
            phi = reference[:-1] - reference[-1]
            assert np.allclose(phi, pool.phi[half][0], atol=1e-6)
            delta = losses[:-1] - losses[-1] - phi[:, None]
            if pool.component.kind == "full":
                assert np.allclose(measured.full[:, half], delta.mean(axis=0), atol=1e-5)
                continue
            covariance = [np.cov(phi, delta[:, t])[0, 1] for t in range(delta.shape[1])]
            scale = np.abs(covariance).max()
            assert scale > 1e-6
            assert np.allclose(measured.covariance[:, half, index], covariance, atol=0.01 * scale)
            assert np.allclose(measured.shift[:, half, index], delta.mean(axis=0), atol=1e-5)
    assert np.allclose(measured.loss, losses[-1], atol=1e-5)


def test_documents_have_draws_of_their_own_unless_shared(language_model: LanguageModel, pools: list[Pool]) -> None:
    def shift(document: int, draws: str) -> np.ndarray:
        settings = ProbeConfig(draws=draws, draws_per_document=4)  # type: ignore[arg-type]
        return probe_document(language_model, TOKENS[:1], document, pools[:-1], pools[-1], settings).shift

    assert np.array_equal(shift(0, "per-document"), shift(0, "per-document"))
    assert any(not np.array_equal(shift(0, "per-document"), shift(d, "per-document")) for d in range(1, 4))
    assert np.array_equal(shift(0, "shared"), shift(5, "shared"))


def test_contexts_of_a_document_are_measured_alone_or_together(
    language_model: LanguageModel, pools: list[Pool]
) -> None:
    together = probe_document(language_model, TOKENS, 1, pools[:-1], pools[-1], EVERYTHING).shift
    alone = [
        probe_document(language_model, TOKENS[i : i + 1], 1, pools[:-1], pools[-1], EVERYTHING).shift for i in range(3)
    ]
    assert np.allclose(together, np.concatenate(alone), atol=1e-5)


def test_a_chain_that_ran_away_is_known(language_model: LanguageModel) -> None:
    component = select(language_model.model, language_model.architecture, ["l1 mlp"])[0]
    tail = Tail.at(language_model, REFERENCE, component.start)
    trained = trained_loss(tail, Budget(1024))
    wild = SGLDConfig(
        sampler="sgld", step_size=10.0, chains=2, burn_in=0, draws=5, steps_between_draws=2, batch_contexts=2
    )
    assert all(chain.diverged(trained, wild.runaway) for chain in two_chains(tail, component, wild))
    assert not any(chain.diverged(trained, SAMPLER.runaway) for chain in two_chains(tail, component, SAMPLER))


class Stored:
    """Every loss evaluated once, one draw and context at a time, and handed out again in whatever batch is asked for.

    So nothing is left between streaming and plain numpy but the arithmetic; how an evaluation is rounded in one batch
    or another does not enter.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.evaluate, self.losses = Tail.losses, dict[tuple[str, bytes, bytes], torch.Tensor]()
        monkeypatch.setattr(Tail, "losses", lambda tail, stacks=(): self.answer(tail, stacks))

    def answer(self, tail: Tail, stacks: Sequence[Stack]) -> torch.Tensor:
        offsets = [(s.component, row[None]) for s in stacks for row in s.offsets] or [(None, torch.zeros(1, 0))]
        contexts = range(len(tail.tokens))
        return torch.stack([torch.cat([self.one(tail, c, *offset) for c in contexts]) for offset in offsets])

    def one(self, tail: Tail, context: int, component: Component | None, offset: torch.Tensor) -> torch.Tensor:
        tokens = tail.tokens[context]
        key = (component.name if component else "", offset.numpy().tobytes(), tokens.numpy().tobytes())
        if key not in self.losses:
            stacks = [Stack(component, offset)] if component else []
            self.losses[key] = self.evaluate(tail.subset(torch.tensor([context])), stacks)[0]
        return self.losses[key]

    def trace(self, name: str, offsets: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """(draws, rows) float64."""
        rows = [[self.losses[name, row.tobytes(), context.tobytes()] for context in tokens] for row in offsets]
        return np.array([torch.cat(row, dim=1).double().numpy()[0] for row in rows])


def parts_of_stored(stored: Stored, pool: Pool, half: int, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariance and shift of every row by their definitions, from all draws of one half at once."""
    delta = stored.trace(pool.component.name, pool.offsets[half][0], tokens)  # type: ignore[arg-type]
    delta = delta - stored.trace("", np.zeros((1, 0), np.float32), tokens) - pool.phi[half][0][:, None]
    return np.cov(pool.phi[half][0], delta.T)[0, 1:], delta.mean(axis=0)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return np.allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("tokens", [1, 16, 40, 100000])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_streaming_equals_stored_traces_to_rounding(
    language_model: LanguageModel, pools: list[Pool], monkeypatch: pytest.MonkeyPatch, tokens: int, order: list[int]
) -> None:
    """To 1e-10, however much is evaluated at once and in whatever order the contexts come."""
    stored, contexts = Stored(monkeypatch), TOKENS[order]
    found = probe_document(language_model, contexts, 3, pools[:-1], pools[-1], EVERYTHING, Budget(tokens))
    assert len(stored.losses) == 3 + 3 * 8 * len(pools)  # every context at w*, and at every draw of every component
    mean_phi = np.array([pool.mean_phi for pool in pools[:-1]])
    halves = assemble(found.covariance, found.shift, found.full, mean_phi, "two-chain")
    for half in range(2):
        _, full_shift = parts_of_stored(stored, pools[-1], half, contexts)
        assert close(found.full[:, half], full_shift)
        for index, pool in enumerate(pools[:-1]):
            covariance, shift = parts_of_stored(stored, pool, half, contexts)
            assert np.abs(covariance).max() > 1e-6
            assert close(found.covariance[:, half, index], covariance)
            assert close(found.shift[:, half, index], shift)
            phi = np.concatenate([pool.phi[0][0], pool.phi[1][0]]).mean()
            assert close(halves[:, half, index], -covariance - phi * (shift - full_shift))


@pytest.mark.parametrize("tokens", [16, 40, 100000])
def test_how_much_is_evaluated_at_once_changes_rounding_only(
    language_model: LanguageModel, pools: list[Pool], tokens: int
) -> None:
    """A float32 loss near 6 nats is good to 2^-21, and products of another shape may add in another order.

    A handful of roundings: 4e-6 in a loss and so in a shift; in a covariance that times twice the spread of φ.
    """
    whole = probe_document(language_model, TOKENS, 2, pools[:-1], pools[-1], EVERYTHING)
    parts = probe_document(language_model, TOKENS, 2, pools[:-1], pools[-1], EVERYTHING, Budget(tokens))
    rounding = 4e-6
    for key in ("shift", "full", "loss"):
        assert np.allclose(getattr(parts, key), getattr(whole, key), rtol=0, atol=rounding), key
    spread = np.array([max(phi.std() for phi in pool.phi) for pool in pools[:-1]])
    assert (np.abs(parts.covariance - whole.covariance) <= 2 * rounding * spread).all()
    assert (np.abs(whole.covariance).max(axis=(0, 1)) > 10 * rounding * spread).all()  # there is something to compare


def test_without_an_unrestricted_chain_its_part_is_unknown(language_model: LanguageModel, pools: list[Pool]) -> None:
    alone = probe_document(language_model, TOKENS, 2, pools[:-1], None, EVERYTHING)
    whole = probe_document(language_model, TOKENS, 2, pools[:-1], pools[-1], EVERYTHING)
    assert np.isnan(alone.full).all()
    assert np.array_equal(alone.covariance, whole.covariance)
