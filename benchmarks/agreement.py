"""Do Balmer and devinterp measure the same susceptibilities?

    make EXTRAS=cpu,dev,bench
    python -m benchmarks.agreement [--seeds 3] [--draws 80] [--out agreement.json]

The demo model on text of Python's library, same contexts and settings. First what must be equal: the sampler's step on
the same gradients and noise, and χ from the same traces. Then what can only agree: χ from chains of their own. Per
component, the correlation over tokens between the two, beside that of devinterp with itself and of Balmer with itself
under other seeds; and the scale, cov(ours, theirs) / cov(theirs, theirs'), which is 1 if both estimate one quantity.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from devinterp.optim import SGMCMC

from balmer.demo import MODEL
from benchmarks import ours, peer_devinterp
from benchmarks.jobs import Job, Outcome, load_model, prepare
from scale.config import ModelConfig, SGLDConfig
from scale.estimate import Moments, assemble, column_correlation
from scale.language_model import load_tokenizer
from scale.sgld import Langevin
from scale.sources import iterate

COMPONENTS = ("l0h1", "l2 mlp", "l4h0")
ESTIMATORS = ("covariance", "two-chain")
Data = tuple[np.ndarray, np.ndarray]
Chis = dict[str, list[np.ndarray]]


def text_contexts(count: int, length: int) -> np.ndarray:
    """One context from the middle of each of ``count`` modules of the standard library."""
    tokenizer = load_tokenizer(ModelConfig(path=str(MODEL)))

    def windows() -> Iterator[list[int]]:
        for text in iterate("python-stdlib", shuffle=1):
            ids = tokenizer(text.text[len(text.text) // 2 :][: 8 * length])["input_ids"]
            if len(ids) >= length:
                yield ids[:length]

    found = windows()
    return np.array([next(found) for _ in range(count)])


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


def from_traces(job: Job, traces: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """χ of devinterp's draws by Balmer's arithmetic, with the covariance over n as devinterp has it."""
    full = draws_of(traces, "full")[1].mean(axis=0)
    parts = []
    for name in job.components:
        phi, delta = draws_of(traces, name)
        moments = Moments(delta.shape[1])
        moments.update(phi, delta)
        parts.append(moments.result())
    covariance = np.stack([p.covariance for p in parts], axis=1) * (job.total_draws - 1) / job.total_draws
    shift = np.stack([p.shift for p in parts], axis=1)
    return {
        "covariance": assemble(covariance, shift, full, mean_phi(job, traces), "covariance"),
        "two-chain": assemble(covariance, shift, full, mean_phi(job, traces), "two-chain"),
    }


def run_ours(job: Job, data: Data) -> dict[str, np.ndarray]:
    found = ours.run(job, load_model(job), data, Path())
    assert found.covariance is not None
    assert found.chi is not None
    assert found.phi is not None
    return {"covariance": found.covariance, "two-chain": found.chi, "phi": found.phi}


def run_theirs(job: Job, data: Data) -> tuple[dict[str, np.ndarray], float]:
    """Their χ, and how far it is from the same traces through our arithmetic, relative to its spread."""
    with tempfile.TemporaryDirectory() as folder:
        found: Outcome = peer_devinterp.run(job, load_model(job), data, Path(folder))
    assert found.chi is not None
    again = from_traces(job, found.traces)
    gap = float((np.abs(found.chi - again["two-chain"]).max(axis=0) / found.chi.std(axis=0)).max())
    result = {"covariance": again["covariance"], "two-chain": found.chi, "phi": mean_phi(job, found.traces)}
    return result, gap


def mean_correlation(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.mean([column_correlation(left, right) for left, right in pairs], axis=0)


def mean_covariance(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.mean([((a - a.mean(axis=0)) * (b - b.mean(axis=0))).mean(axis=0) for a, b in pairs], axis=0)


def compare(mine: list[np.ndarray], theirs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Per component; lists over seeds of (tokens, components)."""
    across, within = list(product(mine, theirs)), list(combinations(theirs, 2))
    return {
        "ours, theirs": mean_correlation(across),
        "theirs, theirs": mean_correlation(within),
        "ours, ours": mean_correlation(list(combinations(mine, 2))),
        "scale": mean_covariance(across) / mean_covariance(within),
    }


def measure(job: Job, data: Data, seeds: int) -> dict[str, Any]:
    mine, theirs, gaps = [], [], []
    for seed in range(seeds):
        mine.append(run_ours(replace(job, seed=seed), data))
        found, gap = run_theirs(replace(job, seed=seed), data)
        theirs.append(found)
        gaps.append(gap)
    tables = {name: compare([m[name] for m in mine], [t[name] for t in theirs]) for name in ESTIMATORS}
    phi = {"ours": np.array([m["phi"] for m in mine]), "theirs": np.array([t["phi"] for t in theirs])}
    return {"step": same_step(), "same traces": max(gaps), "phi": phi, **tables}


def lines(job: Job, result: dict[str, Any]) -> list[str]:
    rows = [
        f"same gradients and noise: weights differ by {result['step']:.1e} of their movement at most",
        f"same traces: χ differs by {result['same traces']:.1e} of its spread at most",
    ]
    for name in ESTIMATORS:
        heads = "".join(f"{head:>16}" for head in result[name])
        rows.append(f"{name:<12}{heads}{'E[φ] ours':>20}{'theirs':>20}")
        for index, component in enumerate(job.components):
            values = "".join(f"{column[index]:>16.3f}" for column in result[name].values())
            phi = "".join(f"{spread_of(result['phi'][side][:, index]):>20}" for side in ("ours", "theirs"))
            rows.append(f"{component:<12}{values}{phi}")
    return rows


def spread_of(values: np.ndarray) -> str:
    return f"{values.mean():.4f} ± {values.std(ddof=1) / np.sqrt(len(values)):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Do Balmer and devinterp measure the same susceptibilities?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=80, help="per chain")
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--contexts", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--components", nargs="+", default=COMPONENTS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    job = Job(
        model="demo",
        components=tuple(options.components),
        contexts=options.contexts,
        reference=options.contexts,
        context_length=options.length,
        batch=4,
        chains=options.chains,
        draws=options.draws,
        burn_in=10,
        between=2,
        step_size=3e-4,
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
