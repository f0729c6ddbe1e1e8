"""What can be found wrong before any work: model, tokenizer, components, taps and window, without loading weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from balmer.config import RunConfig
from balmer.planning.extent import skeleton

if TYPE_CHECKING:
    from balmer.folder import State
    from scale.engine import Engine


def preflight(config: RunConfig) -> None:
    from aux.checks import check_machine
    from balmer.engines import check_engine
    from scale.corpus.stage import check_window
    from scale.model.architecture import read_architecture
    from scale.model.components import select
    from scale.model.language_model import choose_device, load_tokenizer
    from scale.taps.stage import tap_layers

    check_engine(config)
    if config.engine == "local":  # otherwise it is the workers' machines that matter
        check_machine(config.aux)
        choose_device(config.model)
    load_tokenizer(config.model)
    check_window(config.corpus, config.model)
    model = skeleton(config)
    architecture = read_architecture(model)
    select(model, architecture, config.sgld.components)
    tap_layers(architecture.layers, config.taps.count)


def check_workers(config: RunConfig, engine: Engine, to_make: Sequence[State]) -> None:
    """What only a machine of the cluster can tell: whether it has the device that is asked for."""
    if config.engine == "ray" and any("model" in state.stage.settings for state in to_make):
        from scale.model.language_model import choose_device

        engine.ask(choose_device, config.model)
