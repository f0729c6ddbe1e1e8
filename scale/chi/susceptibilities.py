"""Susceptibilities of a model already in memory: no run folder, nothing written, the model left as it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars
import torch
from torch import nn

from scale.chi.estimate import Estimator, assemble, reliability
from scale.chi.gradient_probe import source
from scale.chi.probe import Measured, Source, probe_document
from scale.chi.reliability import PartMoments, PartStatistics
from scale.config import ProbeConfig, SGLDConfig, check_together
from scale.draws.chains import Draws, grouped, in_memory, loss_at_trained_weights, reference_of
from scale.draws.diagnostics import chain_statistics
from scale.draws.groups import group_of
from scale.draws.stability import too_large
from scale.errors import UserError
from scale.model.batches import Budget, memory_explained
from scale.model.components import Component, full, select
from scale.model.language_model import LanguageModel, borrowed
from scale.model.tail import Tail
from scale.model.variants import size_of

ALL = ("all",)


@dataclass(frozen=True)
class Susceptibilities:
    """χ float64 (tokens, components), with what is needed to judge it.

    ``tokens`` (tokens, 2) names the rows: context, and position of the predicted token. ``halves`` (tokens, 2,
    components) are two measurements at independent chains, whose mean is ``chi``; ``reliability`` is that of ``chi``,
    as estimated. ``diagnostics`` has a row for every component and for the full model: the columns of
    ``components.parquet``, and ``failure``. A component of which too few chains were left is NaN throughout, and its
    ``failure`` says why.
    """

    chi: np.ndarray
    halves: np.ndarray
    reliability: np.ndarray
    llc: np.ndarray
    diagnostics: polars.DataFrame
    tokens: np.ndarray
    components: tuple[str, ...]


@dataclass(frozen=True)
class LearningCoefficients:
    """Local learning coefficients with their standard errors over chains, both (components,)."""

    llc: np.ndarray
    error: np.ndarray
    diagnostics: polars.DataFrame
    components: tuple[str, ...]


@dataclass(frozen=True)
class Sampled:
    """The chains of one component and L at the trained weights."""

    component: Component
    chains: list[Draws]
    trained_loss: float
    settings: SGLDConfig

    def numbers(self, half: int) -> list[int]:
        """The chains of one half that have not diverged."""
        count = len(self.chains)
        own = range(count // 2) if half == 0 else range(count // 2, count)
        return [k for k in own if not self.chains[k].diverged(self.trained_loss, self.settings.runaway)]

    def usable(self, half: int) -> list[Draws]:
        return [self.chains[k] for k in self.numbers(half)]

    @property
    def kept(self) -> list[Draws]:
        return [chain for half in range(2) for chain in self.usable(half)]

    @property
    def failure(self) -> str | None:
        """Why there can be no two measurements, or None if there can."""
        if self.usable(0) and self.usable(1):
            return None
        lost = len(self.chains) - len(self.kept)
        return f"{lost} of {len(self.chains)} chains diverged at step size {self.settings.step_size:g}"

    def pool(self) -> Source:
        if self.failure:
            raise UserError(f"{self.component.name}: {self.failure}; use a smaller sampler.step_size")
        halves, numbers = (self.usable(0), self.usable(1)), (self.numbers(0), self.numbers(1))
        return source(self.component, halves, numbers, self.trained_loss, self.settings)

    def statistics(self) -> dict[str, Any]:
        """What the chains that are left say of the component; NaN if none is."""
        kept = self.kept
        phi = np.stack([chain.loss for chain in kept]) - self.trained_loss if kept else np.empty((0, 0))
        return {**chain_statistics(phi, self.settings.nbeta), "excluded_chains": len(self.chains) - len(kept)}


def as_contexts(name: str, contexts: Any, model: nn.Module) -> np.ndarray:
    """Token ids as (contexts, T), checked against the model's vocabulary and window."""
    try:
        ids = contexts.cpu().numpy() if isinstance(contexts, torch.Tensor) else np.asarray(contexts)
    except ValueError as error:
        raise UserError(f"{name}: every context must have equally many tokens; cut them to one length") from error
    if ids.ndim != 2 or ids.shape[1] < 2 or len(ids) == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(f"{name}: expected integer token ids (contexts, at least 2), got {ids.dtype} {ids.shape}")
    size = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    if ids.min() < 0 or ids.max() >= size:
        raise UserError(f"{name}: token ids must lie in [0, {size}), got {ids.min()} to {ids.max()}")
    window = getattr(model.config, "max_position_embeddings", None)
    if window is not None and ids.shape[1] > window:
        raise UserError(
            f"{name}: {ids.shape[1]} tokens are more than the model's window of {window}; cut the contexts shorter"
        )
    return ids


def token_pool(language_model: LanguageModel, reference: np.ndarray, settings: SGLDConfig) -> Tail:
    ids = torch.from_numpy(np.ascontiguousarray(reference[: settings.pool_contexts]))
    return Tail(language_model, ids.long().to(language_model.device), 0, None)


def sample_components(
    language_model: LanguageModel,
    components: Sequence[Component],
    reference: np.ndarray,
    settings: SGLDConfig,
    budget: Budget | None = None,
) -> list[Sampled]:
    """All chains of all components, those of a layer together, in the order of ``components``."""
    budget = budget or Budget.of(language_model.device)
    pools = {0: token_pool(language_model, reference, settings)}
    trained = loss_at_trained_weights(reference_of(pools[0], settings), budget)
    found: dict[str, list[Draws]] = {component.name: [] for component in components}
    ids = pools[0].tokens
    for keys in grouped(language_model, components, settings, ids.shape[1], budget):
        start = keys[0].component.start
        if start not in pools:  # one layer's hidden states at a time, besides the tokens themselves
            pools = {0: pools[0], start: Tail.at(language_model, ids, start, budget)}
        for key, draws in zip(keys, in_memory(group_of(keys, pools[start], settings, budget)), strict=True):
            found[key.component.name].append(draws)
    return [Sampled(component, found[component.name], trained, settings) for component in components]


def explained(failed: Sequence[Sampled], what: str, reference: np.ndarray, language_model: LanguageModel) -> UserError:
    """For chains that diverged: which step size would have held for the smallest of the components."""
    one = min(failed, key=lambda sampled: size_of(sampled.component, language_model.parameters))
    tokens, budget = token_pool(language_model, reference, one.settings).tokens, Budget.of(language_model.device)
    pool = Tail.at(language_model, tokens, one.component.start, budget)
    key = "sampler.step_size"
    return UserError(too_large(key, what, one.component, pool, one.settings, one.trained_loss, budget))


def check_usable(
    parts: Sequence[Sampled], everything: Sampled | None, reference: np.ndarray, language_model: LanguageModel
) -> None:
    """Something must be left to measure; ``everything`` is the full model where it is needed."""
    if all(part.failure for part in parts):
        what = "chains of every component" if any(part.kept for part in parts) else "every chain"
        raise explained(parts, what, reference, language_model)
    if everything is not None and everything.failure:
        raise explained([everything], "the chains of the full model", reference, language_model)


def diagnostics_table(sampled: Sequence[Sampled], statistics: PartStatistics | None = None) -> polars.DataFrame:
    """A row per component, those of ``statistics`` first; what cannot be told is NaN, no failure is null."""
    unknown = dict.fromkeys(vars(statistics), float("nan")) if statistics else {}
    rows = []
    for index, one in enumerate(sampled):
        known = statistics.of(index) if statistics and index < len(statistics.reliability) else unknown
        rows.append({"component": one.component.name, **one.statistics(), **known, "failure": one.failure})
    return polars.DataFrame(rows, schema_overrides={"failure": polars.String})


def spread(values: np.ndarray, columns: Sequence[int], count: int) -> np.ndarray:
    """``values`` (..., some) in their columns of (..., count), NaN in all others."""
    wide = np.full((*values.shape[:-1], count), np.nan)
    wide[..., columns] = values
    return wide


def susceptibilities(
    model: nn.Module,
    contexts: np.ndarray | torch.Tensor,
    components: Sequence[str] = ALL,
    *,
    reference: np.ndarray | torch.Tensor,
    sampler: SGLDConfig | None = None,
    probe: ProbeConfig | None = None,
    estimator: Estimator = "two-chain",
    seed: int = 0,
) -> Susceptibilities:
    """How each component would respond if a token were upweighted in the training data.

    Args:
        model: A causal language model of transformers.
        contexts: Token ids (contexts, T) to be measured; each context is probed at draws of its own.
        components: Names and groups, as in a run file.
        reference: Token ids (contexts, T) on which L is taken and the chains are run.
        sampler: Settings of the chains; their seed is replaced by ``seed``.
        probe: Settings of the probing; its seed is replaced by ``seed``.
        estimator: "two-chain", or "covariance" within the restricted chains alone.
        seed: Everything random follows from it.
    """
    settings, probing = replace(sampler or SGLDConfig(), seed=seed), replace(probe or ProbeConfig(), seed=seed)
    check_together(settings, probing)
    ids, data = as_contexts("contexts", contexts, model), as_contexts("reference", reference, model)
    with borrowed(model) as language_model, memory_explained():
        parts = select(model, language_model.architecture, components)
        budget = Budget.of(language_model.device)
        *sampled, everything = sample_components(language_model, [*parts, full(model)], data, settings, budget)
        needed = None if estimator == "covariance" else everything
        check_usable(sampled, needed, data, language_model)
        measured = measure(language_model, ids, sampled, everything, probing, budget)
    return assembled(ids, sampled, everything, measured, estimator)


def measure(
    language_model: LanguageModel,
    ids: np.ndarray,
    sampled: Sequence[Sampled],
    everything: Sampled,
    settings: ProbeConfig,
    budget: Budget,
) -> Measured:
    """The parts of all contexts, each a document of its own; NaN in the columns of components that failed."""
    usable = [index for index, one in enumerate(sampled) if one.failure is None]
    pools, far = [sampled[index].pool() for index in usable], None if everything.failure else everything.pool()
    found = [probe_document(language_model, ids[i : i + 1], i, pools, far, settings, budget) for i in range(len(ids))]
    covariance, shift, full_shift, loss = (
        np.concatenate([getattr(one, key) for one in found]) for key in ("covariance", "shift", "full", "loss")
    )
    count = len(sampled)
    return Measured(spread(covariance, usable, count), spread(shift, usable, count), full_shift, loss)


def assembled(
    ids: np.ndarray, sampled: Sequence[Sampled], everything: Sampled, parts: Measured, estimator: Estimator
) -> Susceptibilities:
    moments = PartMoments(len(sampled))
    moments.update(parts.covariance, parts.shift, parts.full)
    chains = diagnostics_table([*sampled, everything])
    mean_phi = chains["mean_phi"].to_numpy()[:-1]
    halves = assemble(parts.covariance, parts.shift, parts.full, mean_phi, estimator)
    positions = np.tile(np.arange(1, ids.shape[1]), len(ids))
    return Susceptibilities(
        chi=halves.mean(axis=1),
        halves=halves,
        reliability=reliability(halves),
        llc=chains["llc"].to_numpy()[:-1],
        diagnostics=diagnostics_table([*sampled, everything], moments.result(mean_phi)),
        tokens=np.stack([np.repeat(np.arange(len(ids)), ids.shape[1] - 1), positions], axis=1),
        components=tuple(one.component.name for one in sampled),
    )


def local_learning_coefficients(
    model: nn.Module,
    reference: np.ndarray | torch.Tensor,
    components: Sequence[str] = ALL,
    *,
    sampler: SGLDConfig | None = None,
    seed: int = 0,
) -> LearningCoefficients:
    """The local learning coefficient of each component: nβ (E_C[L] - L(w*)), E_C over its restricted chains."""
    settings = replace(sampler or SGLDConfig(), seed=seed)
    data = as_contexts("reference", reference, model)
    with borrowed(model) as language_model, memory_explained():
        parts = select(model, language_model.architecture, components)
        sampled = sample_components(language_model, parts, data, settings)
        if not any(one.kept for one in sampled):
            raise explained(sampled, "every chain", data, language_model)
    table = diagnostics_table(sampled)
    return LearningCoefficients(
        table["llc"].to_numpy(), table["llc_error"].to_numpy(), table, tuple(part.name for part in parts)
    )
