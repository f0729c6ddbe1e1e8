"""How reliable the parts of χ are for what they cost, estimator by estimator, and whether they agree.

    python -m benchmarks.estimators [--model demo] [--components l0h1 "l2 mlp" l4h0 embed unembed]
        [--nbeta 30] [--gamma 300] [--most 64] [--reference-draws 400] [--out estimators.json]

Every estimator is run as in a run, on text of Python's library. For n draws a half: the correlation of both halves over
tokens, Pearson's and of ranks, and the cost in forward passes of one context, sampling included (a backward pass
counts as two). Beside it what a reliability of 0.9 would cost, by Spearman and Brown from the longest. Agreement: the
correlation of an estimator's means with those of a long chain of SGLD, divided by the root of both reliabilities, and
the slope of SGLD's on it; intervals from contexts drawn again (bootstrap).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.jobs import folder_of
from benchmarks.texts import text_contexts
from scale.batches import Budget
from scale.components import Component, select
from scale.config import ModelConfig, ProbeConfig, SGLDConfig
from scale.estimate import spearman_brown
from scale.language_model import LanguageModel, load_language_model
from scale.probe import HALVES, Source, trained_losses
from scale.susceptibilities import sample_components
from scale.tail import Tail

#: Reliability at which costs are compared.
WANTED = 0.9
BOOTSTRAP = 400


@dataclass(frozen=True)
class Data:
    """Contexts that are measured, and contexts that L is taken on and chains are run on."""

    measured: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class Point:
    """One estimator of one part of one component, at some draws a half; both halves' means over tokens."""

    estimator: str
    component: str
    part: str
    draws: int
    cost: float
    pearson: float
    rank: float
    cost_wanted: float


def estimators(gamma: float, nbeta: float, most: int, reference: int) -> dict[str, SGLDConfig]:
    """Settings of each; enough draws that a half has twice as many as are ever picked."""
    common: dict[str, Any] = {
        "localization": gamma, "nbeta": nbeta, "chains": 4, "pool_contexts": reference,
        "reference_contexts": reference, "storage": "float32",
    }  # fmt: skip
    step = 0.1 / (gamma * 10)  # ε·γ·G/4 = 0.025 with the preconditioner's 1 / 0.1: a bias of 2.6 %
    chain: dict[str, Any] = {"step_size": step, "batch_contexts": 4, "burn_in": 60, "steps_between_draws": 8}
    return {
        "plain": SGLDConfig(estimator="plain", draws=most, **chain, **common),
        "gaussian-gradient": SGLDConfig(estimator="gaussian-gradient", draws=most, **common),
    }


def cost(settings: SGLDConfig, draws: int, data: Data, kept: int) -> float:
    """Forward passes of one context, for ``draws`` a half, both halves; ``kept``: draws of a chain that are needed."""
    reference, measured = len(data.reference), len(data.measured)
    if settings.estimator == "gaussian-gradient":
        return HALVES * draws * (3 * reference + 2 * measured)
    steps = settings.chains * (settings.burn_in + kept * settings.steps_between_draws)
    return steps * 3 * settings.batch_contexts + HALVES * draws * (reference + measured)


def source_of(language_model: LanguageModel, component: Component, data: Data, settings: SGLDConfig) -> Source:
    return sample_components(language_model, [component], data.reference, settings)[0].pool()


def measured(language_model: LanguageModel, source: Source, data: Data, draws: int) -> dict[str, np.ndarray]:
    """Covariance and shift of all tokens at ``draws`` a half, (2, tokens) each."""
    tokens = torch.from_numpy(data.measured).to(language_model.device)
    budget = Budget.of(language_model.device)
    tail = Tail.at(language_model, tokens, source.component.start, budget)
    settings = ProbeConfig(draws_per_document=HALVES * draws)
    baseline = trained_losses(tail)
    halves = [source.parts(tail, half, 0, baseline, settings, budget) for half in range(HALVES)]
    return {part: np.stack([getattr(half, part) for half in halves]) for part in ("covariance", "shift")}


def points(
    name: str, settings: SGLDConfig, component: str, draws: int, found: dict[str, np.ndarray], data: Data
) -> list[Point]:
    rows = []
    for part, halves in found.items():
        pearson, rank = float(np.corrcoef(*halves)[0, 1]), float(spearmanr(*halves).statistic)
        spent = cost(settings, draws, data, -(-draws // 2))
        wanted = WANTED / (1 - WANTED) * (1 - pearson) / pearson if pearson > 0 else float("inf")
        rows.append(Point(name, component, part, draws, spent, pearson, rank, spent * wanted))
    return rows


def reliability(halves: np.ndarray) -> float:
    return float(spearman_brown(np.corrcoef(*halves)[0, 1]))


def agreement(found: np.ndarray, reference: np.ndarray, contexts: int) -> dict[str, list[float]]:
    """Corrected correlation, and slope of ``reference`` on ``found``, each (2, tokens): value, and a 95 % interval."""
    a, b = found.reshape(2, contexts, -1), reference.reshape(2, contexts, -1)
    generator, values = np.random.default_rng(0), []
    for trial in range(BOOTSTRAP + 1):
        chosen = np.arange(contexts) if trial == 0 else generator.integers(contexts, size=contexts)
        x, y = a[:, chosen].reshape(2, -1), b[:, chosen].reshape(2, -1)
        root = np.sqrt(max(reliability(x) * reliability(y), 1e-12))
        mx, my = x.mean(axis=0), y.mean(axis=0)
        signal = np.cov(*x)[0, 1]  # variance of what both halves have in common
        values.append([np.corrcoef(mx, my)[0, 1] / root, np.cov(mx, my)[0, 1] / signal])
    low, high = np.quantile(values[1:], (0.025, 0.975), axis=0)
    return {
        name: [float(values[0][i]), float(low[i]), float(high[i])] for i, name in enumerate(("correlation", "slope"))
    }


def ladder(most: int) -> list[int]:
    """2, 4, 8, ... draws a half."""
    return [2**k for k in range(1, most.bit_length()) if 2**k <= most]


def compare(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    language_model = load_language_model(ModelConfig(path=folder_of(options.model), device=options.device))
    texts = text_contexts(options.measured + options.reference, options.context_length)
    data = Data(texts[: options.measured], texts[options.measured :])
    every, rows, agreements = estimators(options.gamma, options.nbeta, options.most, options.reference), [], []
    for component in select(language_model.model, language_model.architecture, options.components):
        last = {}
        for name, settings in every.items():
            source = source_of(language_model, component, data, settings)
            for draws in ladder(options.most):
                last[name] = measured(language_model, source, data, draws)
                rows += points(name, settings, component.name, draws, last[name], data)
        if options.reference_draws:
            settings = replace(every["plain"], draws=options.reference_draws // 2, seed=1)
            source = source_of(language_model, component, data, settings)
            long = measured(language_model, source, data, options.reference_draws)
            for part, halves in long.items():
                one = agreement(last["gaussian-gradient"][part], halves, options.measured)
                known = {"component": component.name, "part": part, "reliability": reliability(halves)}
                agreements.append({**known, **one})
        print(
            "\n".join(
                lines(
                    [row for row in rows if row.component == component.name],
                    [one for one in agreements if one["component"] == component.name],
                )
            ),
            flush=True,
        )
    return {
        "options": {k: str(v) for k, v in vars(options).items()},
        "points": [asdict(row) for row in rows],
        "agreement": agreements,
    }


def lines(rows: Sequence[Point], agreements: Sequence[dict[str, Any]]) -> list[str]:
    found = [
        f"{r.component:<10} {r.part:<11} {r.estimator:<18} {r.draws:>4} draws a half  r {r.pearson:6.3f}  rank "
        f"{r.rank:6.3f}  cost {r.cost:9,.0f}  for {WANTED}: {r.cost_wanted:12,.0f}"
        for r in rows
    ]
    for one in agreements:
        parts = [f"{k} {one[k][0]:.3f} ({one[k][1]:.3f} to {one[k][2]:.3f})" for k in ("correlation", "slope")]
        known = f"with SGLD (reliability {one['reliability']:.2f})"
        found.append(f"{one['component']:<10} {one['part']:<11} {known}: {', '.join(parts)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimators of the parts of χ: reliability, cost, agreement.")
    parser.add_argument("--model", default="demo", help="demo, or the folder of a model with its tokenizer")
    parser.add_argument("--components", nargs="+", default=["l0h1", "l4h0", "l2 mlp", "embed", "unembed"])
    parser.add_argument("--gamma", type=float, default=300.0)
    parser.add_argument("--nbeta", type=float, default=30.0)
    parser.add_argument("--measured", type=int, default=16, help="contexts")
    parser.add_argument("--reference", type=int, default=16, help="contexts")
    parser.add_argument("--context-length", type=int, default=128)
    parser.add_argument("--most", type=int, default=32, help="draws a half")
    parser.add_argument("--reference-draws", type=int, default=0, help="draws a half of a long chain of SGLD")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = compare(options)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
