"""What can be found wrong before any work: model, tokenizer, components, taps and window, without loading weights."""

from __future__ import annotations

from balmer.config import RunConfig
from balmer.extent import skeleton


def preflight(config: RunConfig) -> None:
    from aux.checks import check_machine
    from scale.architecture import read_architecture
    from scale.components import select
    from scale.corpus import check_window
    from scale.language_model import choose_device, load_tokenizer
    from scale.taps import tap_layers

    check_machine(config.aux)
    choose_device(config.model)
    load_tokenizer(config.model)
    check_window(config.corpus, config.model)
    model = skeleton(config)
    architecture = read_architecture(model)
    select(model, architecture, config.sgld.components)
    tap_layers(architecture.layers, config.taps.count)
