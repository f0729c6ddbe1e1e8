"""The mean direction of a component: v̄ = E ∇L(w* + X) / γ with X ~ N(0, I/γ), on the sampler's reference contexts.

Where token losses are near to linear, Cov(φ, g) = E[∇φ(X)ᵀ ∇g(Z)] / γ (`scale.draws.gaussian`) is v̄ᵀ ∇g(w*): a
susceptibility is then the response of a token's loss to a step along one direction, the same for all tokens
(`scale.draws.mean_gradient`). The draws of X are independent of those that susceptibilities are measured with,
whichever estimator measures them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from scale.config import ModelConfig, SGLDConfig
from scale.draws.chains import ChainKey, grouped
from scale.draws.chosen import chosen_components, component_named, pool_tail
from scale.draws.mean_gradient import MeanDirectionGroup
from scale.engine import Item
from scale.model.batches import Budget, memory_explained, remembered_budget
from scale.model.language_model import load_language_model
from scale.model.tail import Tail
from scale.seeds import seed_for
from scale.store import shard_name


def mean_directions(keys: Sequence[ChainKey], pool: Tail, settings: SGLDConfig, budget: Budget) -> torch.Tensor:
    """v̄ of some components of equal size, (components, parameters), from ``settings.draws`` draws in pairs ±X."""
    group, kept = MeanDirectionGroup(keys, pool, settings, budget), []
    lengths = group.run(lambda _, units: kept.append(torch.from_numpy(units)))
    return kept[0] * (lengths[:, :1] / group.parameters**0.5).float()


def apart(settings: SGLDConfig, draws: int) -> SGLDConfig:
    """Settings of draws that are no one else's: one stream for each component, kept exactly."""
    seed = seed_for(settings.seed, "mean direction") % 2**31
    return replace(settings, estimator="mean-gradient", storage="float32", draws=draws, seed=seed)


@memory_explained()
def directions_of(
    corpus: Path, model: ModelConfig, settings: SGLDConfig, components: tuple[str, ...]
) -> Mapping[str, np.ndarray]:
    """Work item: v̄ of components that start at one block and have equally many parameters."""
    language_model = load_language_model(model)
    keys = [ChainKey(component_named(language_model, name), 0) for name in components]
    pool = pool_tail(corpus, model, keys[0].component.start, settings.pool_contexts)
    budget = remembered_budget(language_model.device, model.batch_tokens)
    return {"directions": mean_directions(keys, pool, settings, budget).numpy()}


def direction_groups(model: ModelConfig, settings: SGLDConfig, length: int) -> list[tuple[str, ...]]:
    """Names of the components whose directions are found together."""
    language_model = load_language_model(model)
    components = chosen_components(language_model, settings)
    budget = Budget.of(language_model.device, model.batch_tokens)
    # Whatever the number of chains, one stream of draws is enough.
    groups = grouped(language_model, components, replace(settings, chains=2), length, budget)
    return [tuple(dict.fromkeys(key.component.name for key in keys)) for keys in groups]


def direction_items(
    corpus: Path, model: ModelConfig, settings: SGLDConfig, groups: Sequence[tuple[str, ...]]
) -> dict[tuple[str, ...], Item]:
    """Work items by the components that they are of."""
    shared = {"corpus": corpus, "model": model, "settings": settings}
    return {
        own: Item(shard_name(index), directions_of, {**shared, "components": own}) for index, own in enumerate(groups)
    }
