"""Every estimator tried on a few components at one setting: two measurements of the probe tokens, and what they share.

`plain` goes the way of `scale.calibrate.trial`, where nothing of the size of a component outlives its step; any other
estimator is sampled and probed as in a run, one component at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from scale.calibrate.allocation import Agreement, Candidate, agreement_of, up_to_multiple
from scale.calibrate.criteria import half_parts, probed_phi, stays
from scale.calibrate.trial import Bench, observe
from scale.chi.estimate import Estimator, Parts, assemble
from scale.chi.gradient_probe import common_to_draws
from scale.chi.probe import HALVES, Source, trained_losses
from scale.chi.susceptibilities import sample_components
from scale.config import CalibrateConfig, ProbeConfig, SGLDConfig
from scale.costs import METHODS
from scale.model.components import FULL, Component
from scale.model.tail import Tail
from scale.progress import Task


@dataclass(frozen=True)
class Pieces:
    """Of one component: covariance and shift in both halves, (2, contexts, tokens) each, E[φ] and nβ sd(φ).

    And the share of a gradient that is common to all draws, where the rest is left out.
    """

    covariance: np.ndarray
    shift: np.ndarray
    mean_phi: float
    tilt: float
    common: float | None = None


def pieces(halves: Sequence[Parts], phi: np.ndarray, settings: SGLDConfig, contexts: int) -> Pieces:
    covariance, shift = (np.stack([getattr(half, part) for half in halves]) for part in ("covariance", "shift"))
    shape = (HALVES, contexts, -1)
    tilt = settings.nbeta * float(phi.std())
    return Pieces(covariance.reshape(shape), shift.reshape(shape), float(phi.mean()), tilt)


def short(settings: SGLDConfig, config: CalibrateConfig) -> SGLDConfig:
    """The same posterior and spacing with as few draws as a trial needs."""
    draws = up_to_multiple(HALVES * config.allocation_draws / config.chains, 2)
    return replace(settings, chains=config.chains, draws=draws, checkpoint_every=0)


def along_chains(bench: Bench, settings: SGLDConfig, task: Task) -> dict[str, Pieces]:
    """Every context at every draw; without the components of which a chain diverged."""
    trained, found = bench.trained(settings), {}
    for name, observed in observe(bench, [settings], task)[0].items():
        if stays(observed, trained.loss, settings.runaway).passed:
            phi = probed_phi(observed, trained)
            found[name] = pieces(half_parts(observed, trained), phi, settings, len(bench.probe))
    return found


def probed(bench: Bench, pool: Source, settings: ProbeConfig) -> list[Parts]:
    """Both halves of the probe tokens, each context as a document of its own."""
    tail = Tail.at(bench.language_model, bench.probe, pool.component.start, bench.budget)
    device, halves = tail.tokens.device, []
    for half in range(HALVES):
        own = []
        for document in range(len(bench.probe)):
            within = tail.subset(torch.tensor([document], device=device))
            own.append(pool.parts(within, half, document, trained_losses(within), settings, bench.budget))
        both = [np.concatenate([getattr(parts, part) for parts in own]) for part in ("covariance", "shift")]
        halves.append(Parts(*both))
    return halves


def as_in_a_run(bench: Bench, settings: SGLDConfig, probe: ProbeConfig, task: Task) -> dict[str, Pieces]:
    """Without the components of which too few chains were left."""
    reference, found = bench.pool.cpu().numpy(), {}
    for component in bench.components:
        (sampled,) = sample_components(bench.language_model, [component], reference, settings, bench.budget)
        if sampled.failure is None:
            pool = sampled.pool()
            phi = np.concatenate([half.ravel() for half in pool.phi])
            own = pieces(probed(bench, pool, probe), phi, settings, len(bench.probe))
            found[component.name] = replace(own, common=common_to_draws(pool))
        task.advance(settings.chains)
    return found


def columns(found: Mapping[str, Pieces], names: Sequence[str], part: Estimator) -> np.ndarray:
    """χ of some components, (components, 2, contexts, tokens)."""
    background = found[FULL].shift if part == "two-chain" else np.zeros_like(found[names[0]].shift)
    return np.stack(
        [
            assemble(
                found[name].covariance[..., None],
                found[name].shift[..., None],
                background,
                np.array([found[name].mean_phi]),
                part,
            )[..., 0]
            for name in names
        ]
    )


def needed(components: Sequence[Component], part: Estimator) -> list[Component]:
    """The covariance asks nothing of the full model."""
    return [c for c in components if part == "two-chain" or c.name != FULL]


def tried(
    bench: Bench, settings: SGLDConfig, config: CalibrateConfig, probe: ProbeConfig, part: Estimator, task: Task
) -> Candidate:
    """One estimator at one setting, without its plan yet."""
    wanted, trial = replace(bench, components=needed(bench.components, part)), short(settings, config)
    if settings.estimator == "plain":
        draws, found = trial.chains * trial.draws // HALVES, along_chains(wanted, trial, task)
    else:  # half of the draws in store for every context, so that contexts do not share them all
        draws = config.allocation_draws // 2
        found = as_in_a_run(wanted, trial, replace(probe, draws_per_document=HALVES * draws), task)
    lost = [component.name for component in wanted.components if component.name not in found]
    tilts = {name: one.tilt for name, one in found.items()} if METHODS[settings.estimator].gaussian else {}
    if lost:
        return Candidate(
            settings.estimator, settings, tilts, {}, None, None, f"chains diverged in its trial: {', '.join(lost)}"
        )
    names = [component.name for component in wanted.components if component.name != FULL]
    common = {name: one.common for name, one in found.items() if one.common is not None}
    return replace(measured(settings, tilts, names, columns(found, names, part), draws), common=common)


def measured(
    settings: SGLDConfig, tilts: dict[str, float], names: Sequence[str], halves: np.ndarray, draws: int
) -> Candidate:
    seen: dict[str, Agreement] = {name: agreement_of(halves[[index]], draws) for index, name in enumerate(names)}
    return Candidate(settings.estimator, settings, tilts, seen, agreement_of(halves, draws), None)
