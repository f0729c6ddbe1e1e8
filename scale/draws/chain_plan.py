"""What is decided of the chains where they run: which go together follows from the device, and so does L(w*)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scale.config import ModelConfig, SGLDConfig
from scale.corpus.stage import split_tokens
from scale.draws.chains import ChainKey, grouped, loss_at_trained_weights, reference_of
from scale.draws.chosen import chosen_components, pool_tail
from scale.draws.stability import too_large
from scale.model.batches import Budget
from scale.model.components import Component, full
from scale.model.language_model import load_language_model
from scale.model.variants import size_of


@dataclass(frozen=True)
class Plan:
    """What is to be sampled, as the device that samples it wants it.

    Args:
        components: All of them, the full model last.
        sizes: Parameters of each, by name.
        groups: Chains that are run together.
        trained: L(w*).
        device: Where all this will be.
    """

    components: list[Component]
    sizes: dict[str, int]
    groups: list[list[ChainKey]]
    trained: float
    device: str


def plan_chains(corpus: Path, model: ModelConfig, settings: SGLDConfig) -> Plan:
    language_model = load_language_model(model)
    components = [*chosen_components(language_model, settings), full(language_model.model)]
    length = split_tokens(corpus, "truth", 1).shape[1]
    budget = Budget.of(language_model.device, model.batch_tokens)
    groups = list(grouped(language_model, components, settings, length, budget))
    pool = pool_tail(corpus, model, 0, settings.pool_contexts)
    trained = loss_at_trained_weights(reference_of(pool, settings), budget)
    sizes = {component.name: size_of(component, language_model.parameters) for component in components}
    return Plan(components, sizes, groups, trained, language_model.device.type)


def why_too_large(
    corpus: Path, model: ModelConfig, settings: SGLDConfig, what: str, component: Component, trained: float
) -> str:
    """What is said of a step size at which ``what`` diverged, tried with the component."""
    pool = pool_tail(corpus, model, component.start, settings.pool_contexts)
    budget = Budget.of(load_language_model(model).device, model.batch_tokens)
    return too_large("sgld.step_size", what, component, pool, settings, trained, budget)
