"""Susceptibilities of a model already in memory: no run folder, nothing written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars
import torch
from torch import nn

from scale.batches import Budget
from scale.chains import Draws, draw_chains, grouped, reference_of, trained_loss
from scale.components import Component, full, select
from scale.config import ProbeConfig, SGLDConfig
from scale.diagnostics import mixing
from scale.errors import UserError
from scale.estimate import Estimator, assemble, reliability
from scale.language_model import LanguageModel
from scale.probe import Pool, probe_document
from scale.tail import Tail

ALL = ("all",)


@dataclass(frozen=True)
class Susceptibilities:
    """χ float64 (tokens, components), with what is needed to judge it.

    ``tokens`` (tokens, 2) names the rows: context, and position of the predicted token. ``halves`` (tokens, 2,
    components) are two measurements at independent chains, whose mean is ``chi``.
    """

    chi: np.ndarray
    halves: np.ndarray
    reliability: np.ndarray
    llc: np.ndarray
    diagnostics: polars.DataFrame
    tokens: np.ndarray
    components: tuple[str, ...]


@dataclass(frozen=True)
class Sampled:
    """The chains of one component and L at the trained weights."""

    component: Component
    chains: list[Draws]
    trained_loss: float
    settings: SGLDConfig

    def usable(self, half: int) -> list[Draws]:
        middle = len(self.chains) // 2
        chains = self.chains[:middle] if half == 0 else self.chains[middle:]
        return [c for c in chains if not c.diverged(self.trained_loss, self.settings.runaway)]

    def pool(self) -> Pool:
        halves = (self.usable(0), self.usable(1))
        if not all(halves):
            raise UserError(
                f"{self.component.name}: too many chains diverged at step size {self.settings.step_size:g}; "
                "use a smaller sampler.step_size"
            )
        phi = [np.stack([c.loss for c in half]) - self.trained_loss for half in halves]
        offsets = [[c.offsets for c in half] for half in halves]
        return Pool(self.component, (offsets[0], offsets[1]), (phi[0], phi[1]))

    @property
    def llc(self) -> float:
        """The local learning coefficient nβ (E_C[L] - L(w*)) (Lau et al. 2023)."""
        kept = [c.loss for half in range(2) for c in self.usable(half)]
        return self.settings.nbeta * (float(np.concatenate(kept).mean()) - self.trained_loss) if kept else float("nan")


def as_contexts(name: str, contexts: np.ndarray | torch.Tensor, model: nn.Module) -> np.ndarray:
    """Token ids as (contexts, T), checked against the model's vocabulary."""
    ids = np.asarray(contexts)
    if ids.ndim != 2 or ids.shape[1] < 2 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(f"{name}: expected integer token ids (contexts, at least 2), got {ids.dtype} {ids.shape}")
    size = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    if ids.min() < 0 or ids.max() >= size:
        raise UserError(f"{name}: token ids must lie in [0, {size}), got {ids.min()} to {ids.max()}")
    return ids


def sample_components(
    language_model: LanguageModel, components: Sequence[Component], reference: np.ndarray, settings: SGLDConfig
) -> list[Sampled]:
    """All chains of all components, those of a layer together, in the order of ``components``."""
    ids = torch.from_numpy(reference[: settings.pool_contexts]).long().to(language_model.device)
    budget = Budget.of(language_model.device)
    found: dict[str, list[Draws]] = {component.name: [] for component in components}
    pools = {0: Tail(language_model, ids, 0, None)}
    for keys in grouped(language_model, components, settings, ids.shape[1], budget):
        start = keys[0].component.start
        if start not in pools:  # one layer's hidden states at a time, besides the tokens themselves
            pools = {0: pools[0], start: Tail.at(language_model, ids, start)}
        for key, draws in zip(keys, draw_chains(keys, pools[start], settings, budget), strict=True):
            found[key.component.name].append(draws)
    trained = trained_loss(reference_of(pools[0], settings), budget)
    return [Sampled(component, found[component.name], trained, settings) for component in components]


def diagnostics_table(sampled: Sequence[Sampled], pools: Sequence[Pool]) -> polars.DataFrame:
    rows = []
    for part, pool in zip(sampled, pools, strict=True):
        mixed = mixing(np.concatenate(pool.phi))
        excluded = len(part.chains) - sum(len(phi) for phi in pool.phi)
        rows.append(
            {"component": part.component.name, "rhat": mixed.rhat, "ess": mixed.ess, "excluded_chains": excluded}
        )
    return polars.DataFrame(rows)


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
    ids, data = as_contexts("contexts", contexts, model), as_contexts("reference", reference, model)
    language_model = LanguageModel.wrap(model)
    parts = select(model, language_model.architecture, components)
    sampled = sample_components(language_model, [*parts, full(model)], data, settings)
    pools = [s.pool() for s in sampled]
    mean_phi = np.array([pool.mean_phi for pool in pools[:-1]])
    measured = [
        probe_document(language_model, ids[i : i + 1], i, pools[:-1], pools[-1], probing) for i in range(len(ids))
    ]
    halves = np.concatenate([assemble(m.covariance, m.shift, m.full, mean_phi, estimator) for m in measured])
    positions = np.tile(np.arange(1, ids.shape[1]), len(ids))
    return Susceptibilities(
        chi=halves.mean(axis=1),
        halves=halves,
        reliability=reliability(halves),
        llc=np.array([s.llc for s in sampled[:-1]]),
        diagnostics=diagnostics_table(sampled, pools),
        tokens=np.stack([np.repeat(np.arange(len(ids)), ids.shape[1] - 1), positions], axis=1),
        components=tuple(part.name for part in parts),
    )


def local_learning_coefficients(
    model: nn.Module,
    reference: np.ndarray | torch.Tensor,
    components: Sequence[str] = ALL,
    *,
    sampler: SGLDConfig | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """The local learning coefficient of each component: nβ (E_C[L] - L(w*)), E_C over its restricted chains."""
    settings = replace(sampler or SGLDConfig(), seed=seed)
    data = as_contexts("reference", reference, model)
    language_model = LanguageModel.wrap(model)
    parts = select(model, language_model.architecture, components)
    return {found.component.name: found.llc for found in sample_components(language_model, parts, data, settings)}
