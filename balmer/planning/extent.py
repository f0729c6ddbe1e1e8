"""How large a run is: the sizes that its time, memory and disk follow from, told before any work.

Of the model only its configuration is read: weights need not be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from balmer.config import RunConfig
from scale.errors import UserError
from scale.model.operations import Shape


@dataclass(frozen=True)
class Extent:
    """What a run file asks for, in numbers.

    Args:
        config: The run file.
        shape: Of the model.
        parameters: Of the whole model.
        starts: Of every chosen component, the first block that it can change.
        sizes: Of every chosen component, its parameters.
        inputs: Numbers that the auxiliary model reads of a token.
        device: Kind of processor that the model runs on: cpu or cuda.
    """

    config: RunConfig
    shape: Shape
    parameters: int
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    inputs: int
    device: str = "cpu"

    @property
    def components(self) -> int:
        return len(self.sizes)

    @property
    def length(self) -> int:
        return self.config.corpus.context_length

    @property
    def measured_contexts(self) -> int:
        return self.config.corpus.truth_contexts + self.config.corpus.heldout_contexts

    @property
    def predicted_contexts(self) -> int:
        return self.config.corpus.heldout_contexts + self.config.corpus.upsample_contexts

    @property
    def contexts(self) -> int:
        return self.measured_contexts + self.config.corpus.upsample_contexts

    @property
    def measured_rows(self) -> int:
        """The first token of a context is not predicted."""
        return self.measured_contexts * (self.length - 1)

    @property
    def predicted_rows(self) -> int:
        return self.predicted_contexts * (self.length - 1)

    @property
    def truth_rows(self) -> int:
        return self.config.corpus.truth_contexts * (self.length - 1)

    @property
    def sampled_rows(self) -> int:
        """Held-out tokens that leakage is measured on, at most."""
        return min(self.config.leakage.tokens, self.config.corpus.heldout_contexts * (self.length - 1))

    @property
    def documents(self) -> int:
        """Measured ones, at least."""
        return -(-self.measured_contexts // self.config.corpus.contexts_per_document)

    @property
    def reference_tokens(self) -> int:
        sgld = self.config.sgld
        return min(sgld.reference_contexts, sgld.pool_contexts, self.config.corpus.truth_contexts) * self.length

    @property
    def pcs(self) -> int:
        """At most: centred rows have one direction fewer than there are components."""
        return self.config.aux.pcs or max(1, self.components - 1)

    @property
    def hidden(self) -> int:
        return self.config.aux.hidden_width(self.shape.width, self.inputs)

    @property
    def number_bytes(self) -> int:
        return 4 if self.config.model.dtype == "float32" else 2


def skeleton(config: RunConfig, weights: bool = True) -> Any:
    """The model's modules without memory behind their weights, which must be there unless they are not asked for."""
    import torch
    from transformers import AutoModelForCausalLM

    from scale.model.language_model import load_config

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(load_config(config.model, weights))


def extent_of(config: RunConfig, device: str = "cpu", weights: bool = False) -> Extent:
    from scale.corpus.stage import check_window
    from scale.model.architecture import read_architecture
    from scale.model.components import Slots, select
    from scale.model.operations import shape_of_model
    from scale.taps.stage import Taps, tap_layers

    model = skeleton(config, weights)
    check_window(config.corpus, config.model, weights)
    architecture = read_architecture(model)
    components = select(model, architecture, config.sgld.components)
    if not components:
        raise UserError("sgld.components: there is nothing to measure; name components or a group")
    layers = tuple(tap_layers(architecture.layers, config.taps.count))
    reads = config.taps.responses != "none"
    taps = Taps(layers, config.taps.gradients, tuple(c.name for c in components) if reads else ())
    return Extent(
        config=config,
        shape=shape_of_model(model, architecture),
        parameters=sum(p.numel() for p in model.parameters()),
        starts=tuple(component.start for component in components),
        sizes=tuple(sum(Slots(model, component).sizes) for component in components),
        inputs=taps.columns(architecture.width),
        device=device,
    )
