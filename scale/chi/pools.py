"""The draws of all components that can be measured, as probing takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scale.chi.gradient_probe import common_to_draws, source
from scale.chi.probe import Source
from scale.config import ModelConfig, SGLDConfig
from scale.draws.chosen import component_named
from scale.draws.stage import half_chains, read_draws
from scale.engine import per_worker
from scale.errors import UserError
from scale.model.components import FULL, Component
from scale.model.language_model import LanguageModel, load_language_model
from scale.store import read_manifest, read_table


def load_source(
    draws: Path,
    language_model: LanguageModel,
    component: str,
    chains: list[list[dict[str, Any]]],
    trained: float,
    settings: SGLDConfig,
) -> Source:
    first, second = ([read_draws(draws, row) for row in half] for half in chains)
    numbers = ([row["chain"] for row in chains[0]], [row["chain"] for row in chains[1]])
    return source(component_named(language_model, component), (first, second), numbers, trained, settings)


@dataclass(frozen=True)
class Pools:
    """All components that can be measured, the unrestricted chain, and the names of those that cannot."""

    components: list[Source]
    full: Source
    failed: list[str]


def check_device(facts: Mapping[str, Any], device: str, sgld: SGLDConfig) -> None:
    """Where draws follow from their seeds, they must follow from them here: devices have generators of their own."""
    made = facts.get("device", device)
    if sgld.estimator == "gaussian-gradient" and made != device:
        raise UserError(
            f"model.device: the draws were made on {made}, and sgld.estimator: {sgld.estimator} makes some of their "
            f"numbers again from seeds, which give others on {device}; go on with model.device: {made}"
        )


@per_worker
def load_pools(draws: Path, model: ModelConfig, sgld: SGLDConfig) -> Pools:
    language_model = load_language_model(model)
    facts, chains = read_manifest(draws).facts, read_table(draws / "chains.parquet")
    check_device(facts, language_model.device.type, sgld)
    usable, failed = [], []
    for name in [*facts["components"], FULL]:
        halves = half_chains(chains, name)
        if all(halves):
            usable.append(load_source(draws, language_model, name, halves, facts["trained_loss"], sgld))
        else:
            failed.append(name)
    assert FULL not in failed, "the draws stage refuses that"
    assert len(usable) > 1, "the draws stage refuses that"
    return Pools(usable[:-1], usable[-1], failed)


@dataclass(frozen=True)
class PoolFacts:
    """What is known of one component without its draws: φ at those of all chains, (chains, draws), and its mean; of
    its gradients, the share that is common to all draws, where the rest is left out; what a pass through it costs of
    one through the whole model."""

    component: Component
    phi: np.ndarray
    mean_phi: float
    common: float | None
    share: float


@dataclass(frozen=True)
class Described:
    """All components that can be measured, the names of those that cannot, and the parameters that a pass meets."""

    components: list[PoolFacts]
    failed: list[str]
    multiplied: int


def describe_pools(draws: Path, model: ModelConfig, sgld: SGLDConfig) -> Described:
    pools, whole = load_pools(draws, model, sgld), load_language_model(model)
    facts = [
        PoolFacts(
            pool.component,
            np.concatenate(pool.phi),
            pool.mean_phi,
            common_to_draws(pool),
            whole.share(pool.component.start),
        )
        for pool in pools.components
    ]
    return Described(facts, pools.failed, whole.multiplied())
