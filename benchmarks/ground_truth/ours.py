"""Balmer on a job: the only file of the benchmarks that calls the sampler and the probe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from benchmarks.jobs import Clock, Job, Outcome
from scale.chi.estimate import Parts
from scale.chi.probe import Source, probe_component, trained_losses
from scale.chi.susceptibilities import Sampled, sample_components
from scale.config import ProbeConfig, SGLDConfig
from scale.model.batches import Budget
from scale.model.components import full, select
from scale.model.forward import streams
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail


def settings(job: Job) -> SGLDConfig:
    return SGLDConfig(
        sampler=cast(Any, job.sampler),
        step_size=job.step_size,
        nbeta=job.nbeta,
        localization=job.localization,
        batch_contexts=job.batch,
        chains=job.chains,
        burn_in=job.burn_in,
        draws=job.draws,
        steps_between_draws=job.between,
        pool_contexts=job.reference,
        reference_contexts=job.reference,
        seed=job.seed,
    )


def probe(job: Job, model: LanguageModel, pools: list[Source], contexts: np.ndarray) -> list[list[tuple[Parts, Parts]]]:
    """Per component and batch of contexts, both halves' parts at every draw of every chain."""
    probing = ProbeConfig(draws="shared", draws_per_document=job.total_draws, seed=job.seed)
    found: list[list[tuple[Parts, Parts]]] = [[] for _ in pools]
    budget = Budget.of(model.device)
    for batch in torch.from_numpy(contexts).long().to(model.device).split(job.batch):
        starts = {0, *(pool.component.start for pool in pools)}
        tails = {s: Tail(model, batch, s, hidden) for s, hidden in streams(model, batch, sorted(starts)).items()}
        baseline = trained_losses(tails[0])
        for index, pool in enumerate(pools):
            halves = probe_component(tails[pool.component.start], pool, 0, baseline, probing, budget)
            found[index].append(halves)
    return found


def column(batches: list[tuple[Parts, Parts]], part: str) -> np.ndarray:
    """One part of one component over all tokens, the mean of the halves."""
    return np.concatenate([np.mean([getattr(half, part) for half in halves], axis=0) for halves in batches])


def draw_bytes(sampled: list[Sampled]) -> int:
    """What the stage `draws` writes of them."""
    return sum(np.asarray(c.offsets).nbytes + c.loss.nbytes + c.trace.nbytes for one in sampled for c in one.chains)


def part_bytes(tokens: int, components: int) -> int:
    """What the stage `chi` writes: covariance and shift of both halves in float32."""
    return tokens * components * 2 * 2 * 4


def run(job: Job, model: Any, data: tuple[np.ndarray, np.ndarray], folder: Path) -> Outcome:
    started, clock = time.perf_counter(), Clock(job.device)
    language_model = LanguageModel.wrap(model)
    parts = select(model, language_model.architecture, job.components)
    parts.sort(key=lambda part: job.components.index(part.name))
    with clock.phase("sampling"):
        sampled = sample_components(language_model, parts, data[1], settings(job))
    with clock.phase("evaluation"):
        pools = [one.pool() for one in sampled]
        found = probe(job, language_model, pools, data[0]) if job.contexts else []
    clock.seconds["restricted"] = sum(clock.seconds.values())
    sizes = {"per draw": draw_bytes(sampled), "per token": part_bytes(job.tokens, len(parts))}
    covariance = np.stack([column(one, "covariance") for one in found], axis=1) if found else None
    shift = np.stack([column(one, "shift") for one in found], axis=1) if found else None
    chi = None
    if job.full and covariance is not None:
        with clock.phase("full"):
            everything = sample_components(language_model, [full(model)], data[1], settings(job))
            far = column(probe(job, language_model, [everything[0].pool()], data[0])[0], "shift")
        sizes["full"] = draw_bytes(everything) + 8 * job.tokens
        assert shift is not None
        chi = -covariance - np.array([pool.mean_phi for pool in pools]) * (shift - far[:, None])
    return Outcome(
        seconds=clock.seconds,
        wall=time.perf_counter() - started,
        bytes=sizes,
        covariance=None if covariance is None else -covariance,
        shift=shift,
        chi=chi,
        phi=np.array([pool.mean_phi for pool in pools]),
    )
