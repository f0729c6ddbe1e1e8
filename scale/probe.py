"""Probing: the losses of a document's tokens at stored draws, reduced at once to the parts of its susceptibilities.

Every document is probed at a random subset of the draws of its own, so that the finite-draw error is independent
between documents. Half of the subset comes from either half of the chains: two independent measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scale.chains import Perturbed
from scale.components import Component
from scale.config import ProbeConfig
from scale.estimate import Moments, Parts
from scale.forward import Tail
from scale.language_model import LanguageModel
from scale.seeds import generator_for

HALVES = 2


@dataclass(frozen=True)
class Pool:
    """The usable draws of one component, in two halves of independent chains.

    ``offsets[half]`` lists the chains' arrays (draws, parameters); ``phi[half]`` their L(w) - L(w*), (chains, draws).
    """

    component: Component
    offsets: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]
    phi: tuple[np.ndarray, np.ndarray]

    @property
    def mean_phi(self) -> float:
        """E_C[φ] over all draws of both halves.

        One number for both: it scales a whole column, and the error of two numbers would scale the large part that all
        columns share, E_full[l_t - L], into a direction of its own with opposite signs in the two halves.
        """
        return float(np.concatenate([phi.ravel() for phi in self.phi]).mean())

    def pick(self, half: int, count: int, generator: np.random.Generator) -> list[tuple[np.ndarray, float]]:
        """A random subset of one half's draws, without repetition: offsets and φ."""
        chains, draws = self.phi[half].shape
        chosen = generator.choice(chains * draws, size=min(count, chains * draws), replace=False)
        return [
            (self.offsets[half][i // draws][i % draws], float(self.phi[half][i // draws, i % draws])) for i in chosen
        ]


def subset_generator(component: str, document: int, half: int, settings: ProbeConfig) -> np.random.Generator:
    """Decides which draws a document is probed at."""
    if settings.draws == "shared":
        return generator_for(settings.seed, component, half)
    return generator_for(settings.seed, component, half, document)


def trained_losses(language_model: LanguageModel, tokens: torch.Tensor) -> np.ndarray:
    """l_t(w*) of every row, float64."""
    with torch.no_grad():
        return Tail(language_model, tokens, 0).losses().double().flatten().cpu().numpy()


def probe_component(
    tail: Tail, pool: Pool, document: int, baseline: np.ndarray, settings: ProbeConfig
) -> tuple[Parts, Parts]:
    """Both halves of one component's parts for the tokens of ``tail``; ``baseline`` is l_t(w*)."""
    halves = []
    with Perturbed(tail.language_model, pool.component) as weights, torch.no_grad():
        for half in range(HALVES):
            moments = Moments(len(baseline))
            generator = subset_generator(pool.component.name, document, half, settings)
            for offset, phi in pool.pick(half, settings.draws_per_document // HALVES, generator):
                weights.set_offset(offset)
                losses = tail.losses().double().flatten().cpu().numpy()
                moments.update(phi, losses - baseline - phi)
            halves.append(moments.result())
    return halves[0], halves[1]


@dataclass(frozen=True)
class Measured:
    """The parts of one document's susceptibilities: (rows, 2, C), (rows, 2, C), (rows, 2) and l_t(w*) (rows,)."""

    covariance: np.ndarray
    shift: np.ndarray
    full: np.ndarray
    loss: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        return {key: value.astype(np.float32) for key, value in vars(self).items()}


def probe_document(
    language_model: LanguageModel,
    tokens: np.ndarray,
    document: int,
    pools: Sequence[Pool],
    full: Pool,
    settings: ProbeConfig,
    done: Callable[[], None] = lambda: None,
) -> Measured:
    """Measure every component on the contexts of one document; the prefix is computed once per layer."""
    ids = torch.from_numpy(tokens).long().to(language_model.device)
    baseline = trained_losses(language_model, ids)
    tails: dict[int, Tail] = {}
    parts = []
    for pool in pools:
        start = pool.component.start
        if start not in tails:
            tails[start] = Tail(language_model, ids, start)
        parts.append(probe_component(tails[start], pool, document, baseline, settings))
        done()
    unrestricted = probe_component(Tail(language_model, ids, 0), full, document, baseline, settings)
    return Measured(
        covariance=np.stack([[half.covariance for half in both] for both in parts]).transpose(2, 1, 0),
        shift=np.stack([[half.shift for half in both] for both in parts]).transpose(2, 1, 0),
        full=np.stack([half.shift for half in unrestricted], axis=1),
        loss=baseline,
    )
