"""Do Balmer and devinterp measure the same susceptibilities?

    make EXTRAS=cpu,dev,bench
    python -m benchmarks.agreement [--seeds 3] [--draws 80] [--out agreement.json]

The demo model on text of Python's library, same contexts and settings. First what must be equal: the sampler's step on
the same gradients and noise, and χ from the same traces. Then what can only agree: χ from chains of their own. Per
component, the correlation over tokens between the two (mean and range over pairs of runs), beside that of devinterp
with itself and of Balmer with itself under other seeds; and the scale, cov(ours, theirs) / cov(theirs, theirs'), which
is 1 if both estimate one quantity. Tokens share the error of a run, so that correlations of runs scatter widely.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from devinterp.optim import SGMCMC

from benchmarks.ground_truth import ours, peer_devinterp
from benchmarks.jobs import Job, Outcome, load_model, prepare
from benchmarks.texts import text_contexts
from scale.chi.estimate import Moments, assemble, column_correlation
from scale.config import SGLDConfig
from scale.draws.sgld import Langevin

COMPONENTS = ("l0h1", "l2 mlp", "l4h0")
Data = tuple[np.ndarray, np.ndarray]
Chis = dict[str, list[np.ndarray]]


def estimates(job: Job) -> tuple[str, ...]:
    """-Cov_C(φ, l - L); E_C[l - L] from the trained weights on; and χ of both, which needs the unrestricted chain."""
    return ("covariance", "shift", *(["two-chain"] if job.full else []))


def same_step(steps: int = 20) -> float:
    """Largest difference between the weights of the two samplers, relative to their movement."""
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(steps, 50, generator=generator)
    settings = SGLDConfig(step_size=1e-3, nbeta=30.0, localization=300.0)
    theirs = torch.nn.Parameter(torch.ones(50))
    optimizer = SGMCMC.rmsprop_sgld([theirs], lr=1e-3, nbeta=30.0, localization=300.0)
    torch.manual_seed(1)
    for gradient in gradients:
        theirs.grad = gradient.clone()
        optimizer.step()
    mine = Langevin(settings, 50, [torch.default_generator], "cpu")
    torch.manual_seed(1)
    for gradient in gradients:
        mine.step(lambda offsets, gradient=gradient: (torch.zeros(1), gradient[None]))  # type: ignore[misc]
    moved = mine.offsets[0]
    return float((moved - (theirs.detach() - 1)).abs().max() / moved.abs().mean())


def draws_of(traces: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """φ (draws,) and l - L (draws, tokens) of all chains of one component."""
    reference = traces[f"{name}/reference"].ravel()
    losses = traces[f"{name}/loss"].astype(np.float64).reshape(len(reference), -1)
    return reference - traces[f"{name}/trained"], losses - reference[:, None]


def mean_phi(job: Job, traces: dict[str, np.ndarray]) -> np.ndarray:
    return np.array([draws_of(traces, name)[0].mean() for name in job.components])


def from_traces(job: Job, traces: dict[str, np.ndarray], trained: np.ndarray) -> dict[str, np.ndarray]:
    """devinterp's draws through Balmer's arithmetic, with the covariance over n as devinterp has it.

    ``trained`` are the tokens' losses at the trained weights, which the shift is counted from.
    """
    parts = []
    for name in job.components:
        phi, delta = draws_of(traces, name)
        moments = Moments(delta.shape[1])
        moments.update(phi, delta)
        parts.append(moments.result())
    covariance = np.stack([p.covariance for p in parts], axis=1) * (job.total_draws - 1) / job.total_draws
    shift = np.stack([p.shift for p in parts], axis=1)
    reference = traces[f"{job.components[0]}/trained"]
    found = {"covariance": -covariance, "shift": shift - (trained - reference)[:, None]}
    if job.full:
        full = draws_of(traces, "full")[1].mean(axis=0)
        found["two-chain"] = assemble(covariance, shift, full, mean_phi(job, traces), "two-chain")
    return found


def run_ours(job: Job, data: Data) -> dict[str, np.ndarray]:
    found = ours.run(job, load_model(job), data, Path())
    assert found.covariance is not None
    assert found.shift is not None
    assert found.phi is not None
    values = {"covariance": found.covariance, "shift": found.shift, "phi": found.phi}
    return values if found.chi is None else {**values, "two-chain": found.chi}


def run_theirs(job: Job, data: Data) -> tuple[dict[str, np.ndarray], float]:
    """Theirs, and how far their χ is from that of the same traces by our arithmetic, relative to its spread."""
    model = load_model(job)
    with torch.no_grad():
        trained = peer_devinterp.fused_loss(model, torch.from_numpy(data[0])).double().flatten().numpy()
    with tempfile.TemporaryDirectory() as folder:
        found: Outcome = peer_devinterp.run(job, model, data, Path(folder))
    values = {**from_traces(job, found.traces, trained), "phi": mean_phi(job, found.traces)}
    if found.chi is None:
        return values, 0.0
    gap = float((np.abs(found.chi - values["two-chain"]).max(axis=0) / found.chi.std(axis=0)).max())
    return {**values, "two-chain": found.chi}, gap


def correlations(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(pairs, components), over tokens."""
    return np.array([column_correlation(left, right) for left, right in pairs])


def mean_covariance(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.mean([((a - a.mean(axis=0)) * (b - b.mean(axis=0))).mean(axis=0) for a, b in pairs], axis=0)


def compare(mine: list[np.ndarray], theirs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Lists over seeds of (tokens, components); correlations of all pairs, and the scale per component."""
    across, within = list(product(mine, theirs)), list(combinations(theirs, 2))
    return {
        "ours, theirs": correlations(across),
        "theirs, theirs": correlations(within),
        "ours, ours": correlations(list(combinations(mine, 2))),
        "scale": mean_covariance(across)[None] / mean_covariance(within),
    }


def measure(job: Job, data: Data, seeds: int) -> dict[str, Any]:
    mine, theirs, gaps = [], [], []
    for seed in range(seeds):
        mine.append(run_ours(replace(job, seed=seed), data))
        found, gap = run_theirs(replace(job, seed=seed), data)
        theirs.append(found)
        gaps.append(gap)
        print(f"seed {seed} of {seeds} done", file=sys.stderr, flush=True)
    tables = {name: compare([m[name] for m in mine], [t[name] for t in theirs]) for name in estimates(job)}
    phi = {"ours": np.array([m["phi"] for m in mine]), "theirs": np.array([t["phi"] for t in theirs])}
    return {"step": same_step(), "same traces": max(gaps), "phi": phi, **tables}


def lines(job: Job, result: dict[str, Any]) -> list[str]:
    rows = [f"same gradients and noise: weights differ by {result['step']:.1e} of their movement at most"]
    if job.full:
        rows.append(f"same traces: χ differs by {result['same traces']:.1e} of its spread at most")
    for name in estimates(job):
        rows.append(f"{name:<12}" + "".join(f"{head:>26}" for head in result[name]))
        for index, component in enumerate(job.components):
            rows.append(f"{component:<12}" + "".join(f"{ranged(v[:, index]):>26}" for v in result[name].values()))
    rows.append(f"{'E[φ]':<12}" + "".join(f"{head:>26}" for head in result["phi"]))
    for index, component in enumerate(job.components):
        rows.append(f"{component:<12}" + "".join(f"{ranged(v[:, index], 4):>26}" for v in result["phi"].values()))
    return rows


def ranged(values: np.ndarray, digits: int = 2) -> str:
    """Mean, and range if there are several."""
    mean, low, high = (f"{value:.{digits}f}" for value in (values.mean(), values.min(), values.max()))
    return f"{mean} ({low} to {high})" if len(values) > 1 else mean


def main() -> None:
    parser = argparse.ArgumentParser(description="Do Balmer and devinterp measure the same susceptibilities?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=80, help="per chain")
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--contexts", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--no-full", action="store_true", help="leave the unrestricted chain out, and χ of both parts")
    parser.add_argument("--components", nargs="+", default=COMPONENTS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    job = Job(
        model="demo",
        components=tuple(options.components),
        contexts=options.contexts,
        reference=options.contexts,
        context_length=options.length,
        batch=options.batch,
        chains=options.chains,
        draws=options.draws,
        burn_in=10,
        between=2,
        step_size=3e-4,
        full=not options.no_full,
        keep_traces=True,
    )
    prepare(job)
    ids = text_contexts(job.contexts + job.reference, job.context_length)
    result = measure(job, (ids[: job.contexts], ids[job.contexts :]), options.seeds)
    print("\n".join(lines(job, result)))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, default=np.ndarray.tolist))


if __name__ == "__main__":
    main()
