"""Short chains at several settings of the sampler, watched closely: what `scale.calibrate.criteria` judges.

Nothing of the size of a component outlives its step: probe tokens are evaluated when a draw is made, and of the
offsets only a few coordinates and two products are kept. So the whole model can be tried like any other component.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from scale.calibrate.criteria import Observed, Trained
from scale.chi.probe import trained_losses
from scale.config import CalibrateConfig, SGLDConfig
from scale.costs import PASSES_PER_GRADIENT
from scale.draws.chains import ChainGroup, ChainKey, grouped, reference_of, stacks_of, trained_loss
from scale.draws.sgld import Gradient
from scale.model.batches import Budget
from scale.model.components import Component
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.progress import Task
from scale.seeds import generator_for

#: Coordinates of a component whose path is kept; more than enough for one correlation.
WATCHED = 256


class Watch:
    """Stands between chains and their gradient, and notes what passes."""

    def __init__(self, gradient: Gradient, coordinates: torch.Tensor) -> None:
        self.gradient, self.coordinates = gradient, coordinates
        self.push: list[np.ndarray] = []
        self.square: list[np.ndarray] = []
        self.watched: list[np.ndarray] = []

    def __call__(self, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        losses, slopes = self.gradient(offsets)
        self.push.append((offsets * slopes).sum(dim=1).double().cpu().numpy())
        self.square.append((offsets * offsets).sum(dim=1).double().cpu().numpy())
        self.watched.append(offsets[:, self.coordinates].double().cpu().numpy())
        return losses, slopes


@dataclass(frozen=True)
class Bench:
    """What settings are tried on: components, the contexts of the chains, and those on which χ is measured."""

    language_model: LanguageModel
    components: Sequence[Component]
    pool: torch.Tensor
    probe: torch.Tensor
    budget: Budget

    def trained(self, settings: SGLDConfig) -> Trained:
        reference = reference_of(Tail(self.language_model, self.pool, 0, None), settings)
        probed = trained_losses(Tail(self.language_model, self.probe, 0, None))
        loss = trained_loss(reference, self.budget)
        return Trained(loss, probed, math.log(len(self.language_model.unembedding.weight)) - loss)


def representative(components: Sequence[Component]) -> list[Component]:
    """Of every kind the first of its lowest, middle and top layer, in the order of ``components``."""
    chosen: set[str] = set()
    for kind in dict.fromkeys(component.kind for component in components):
        first: dict[int | None, str] = {}
        for component in components:
            if component.kind == kind:
                first.setdefault(component.layer, component.name)
        layers = list(first)
        chosen |= {first[layers[index]] for index in (0, len(layers) // 2, len(layers) - 1)}
    return [component for component in components if component.name in chosen]


def trial_settings(settings: SGLDConfig, config: CalibrateConfig) -> SGLDConfig:
    """The run's settings with short chains that are looked at from the first step on."""
    return replace(
        settings,
        chains=config.chains,
        burn_in=0,
        draws=config.steps // config.steps_between_draws,
        steps_between_draws=config.steps_between_draws,
        checkpoint_every=0,
    )


def cost(bench: Bench, start: int, settings: SGLDConfig, probed: int) -> float:
    """Of all chains of one component, in forward passes of a token through the whole model."""
    contexts, length = bench.pool.shape
    steps = settings.total_steps * PASSES_PER_GRADIENT * settings.batch_contexts * length
    draws = settings.draws * min(settings.reference_contexts, contexts) * length
    return bench.language_model.share(start) * settings.chains * (steps + draws + probed * bench.probe.numel())


@torch.no_grad()
def probe_losses(probe: Tail, keys: Sequence[ChainKey], draws: np.ndarray, budget: Budget) -> np.ndarray:
    """Losses of the probe tokens at one draw of every chain, (chains, tokens)."""
    offsets = torch.from_numpy(draws).float().to(probe.tokens.device)
    contexts, length = probe.tokens.shape
    found = np.empty((len(keys), contexts * (length - 1)))

    def some(begin: int, end: int) -> None:
        losses = probe.losses(stacks_of(keys[begin:end], offsets[begin:end]))
        found[begin:end] = losses.flatten(1).double().cpu().numpy()

    budget.ranges(len(keys), lambda: budget.variants(probe.tokens.numel(), offsets.shape[1]), some)
    return found


def preconditioner(group: ChainGroup, coordinates: torch.Tensor) -> np.ndarray:
    """G at some coordinates, (chains, coordinates), as the last step used it."""
    settings, squares = group.settings, group.langevin.squares
    if squares is not None:
        return (1 / (settings.rmsprop_stability + squares[:, coordinates].sqrt())).double().cpu().numpy()
    constant = 1.0 if settings.sampler == "sgld" else 1 / settings.rmsprop_stability
    return np.full((len(group.keys), len(coordinates)), constant)


def run_group(
    bench: Bench, keys: Sequence[ChainKey], pool: Tail, probe: Tail, settings: SGLDConfig
) -> dict[ChainKey, Observed]:
    """A group of chains from beginning to end, each as an `Observed` of one chain.

    Without a burn-in it is the first half of the draws that serves as one, and is not probed.
    """
    group = ChainGroup(keys, pool, settings, bench.budget)
    parameters = group.langevin.offsets.shape[1]
    chosen = generator_for(settings.seed, "watched", parameters).integers(0, parameters, min(WATCHED, parameters))
    coordinates = torch.from_numpy(chosen).to(pool.tokens.device)
    watch = Watch(group.gradient, coordinates)
    group.gradient = watch
    probed: list[np.ndarray] = []
    first = 0 if settings.burn_in else settings.draws // 2

    def keep(index: int, draws: np.ndarray) -> None:
        if index >= first:
            probed.append(probe_losses(probe, keys, draws, bench.budget))

    trace = group.run(keep).numpy()
    tokens, scale = np.stack(probed, axis=1), preconditioner(group, coordinates)
    push, square, watched = (
        np.stack(watch.push, 1),
        np.stack(watch.square, 1),
        np.stack(watch.watched).transpose(2, 1, 0),
    )
    part = cost(bench, pool.start, settings, len(probed)) / settings.chains
    return {
        key: Observed(
            trace[[k]],
            group.loss[[k]],
            tokens[[k]],
            push[[k]],
            square[[k]],
            watched[:, [k]],
            scale[[k]],
            parameters,
            part,
        )
        for k, key in enumerate(keys)
    }


def joined(chains: Sequence[Observed]) -> Observed:
    """The chains of one component, which may have run in different groups."""
    together = {
        name: np.concatenate([getattr(chain, name) for chain in chains], axis=1 if name == "watched" else 0)
        for name in ("trace", "loss", "probe", "push", "square", "watched", "scale")
    }
    return Observed(**together, parameters=chains[0].parameters, cost=sum(chain.cost for chain in chains))


def observe(bench: Bench, settings: Sequence[SGLDConfig], task: Task) -> list[dict[str, Observed]]:
    """Every component at every setting; the hidden states below a layer are computed once for all settings."""
    found: list[dict[ChainKey, Observed]] = [{} for _ in settings]
    length = bench.pool.shape[1]
    groups = grouped(bench.language_model, bench.components, settings[0], length, bench.budget)
    for start, members in groupby(groups, key=lambda keys: keys[0].component.start):
        pool, probe = (Tail.at(bench.language_model, ids, start) for ids in (bench.pool, bench.probe))
        for keys in members:
            for place, setting in zip(found, settings, strict=True):
                place |= run_group(bench, keys, pool, probe, setting)
                task.advance(len(keys))
    return [by_component(place, bench.components) for place in found]


def by_component(found: dict[ChainKey, Observed], components: Sequence[Component]) -> dict[str, Observed]:
    return {
        component.name: joined([chain for key, chain in found.items() if key.component.name == component.name])
        for component in components
    }
