"""Components by name, and the contexts that their chains run on."""

from __future__ import annotations

from pathlib import Path

import torch

from scale.config import ModelConfig, SGLDConfig
from scale.corpus.stage import split_tokens
from scale.engine import per_worker
from scale.model.batches import remembered_budget
from scale.model.components import FULL, Component, full, select
from scale.model.language_model import LanguageModel, load_language_model
from scale.model.tail import Tail


def chosen_components(language_model: LanguageModel, settings: SGLDConfig) -> list[Component]:
    return select(language_model.model, language_model.architecture, settings.components)


def component_named(language_model: LanguageModel, name: str) -> Component:
    if name == FULL:
        return full(language_model.model)
    return select(language_model.model, language_model.architecture, [name])[0]


@per_worker
def pool_tail(corpus: Path, model: ModelConfig, start: int, contexts: int) -> Tail:
    """The contexts that chains are run on, with their hidden states below block ``start``: shared by a whole layer."""
    language_model = load_language_model(model)
    tokens = torch.from_numpy(split_tokens(corpus, "truth", contexts)).long().to(language_model.device)
    return Tail.at(language_model, tokens, start, remembered_budget(language_model.device, model.batch_tokens))
