"""From hidden states to token losses: what a model does with its last hidden states, described once.

    logits = cap(scale · (W h + b)),   cap(x) = c tanh(x / c) where the architecture caps its logits

`LanguageModel.wrap` compares these logits with the model's own, so that an architecture that does something else is
refused and never measured wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Unembedding:
    """``weight`` (vocabulary, width), ``bias`` (vocabulary,) or None, ``scale`` and ``cap`` as above."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def finish(self, products: torch.Tensor) -> torch.Tensor:
        """Logits from W h + b; in place where nothing needs the products again."""
        if self.scale != 1.0:
            products = products * self.scale
        if self.cap is not None:
            products = torch.tanh(products / self.cap) * self.cap
        return products

    def slope(self, logits: torch.Tensor) -> torch.Tensor | float:
        """d logits / d (W h + b), elementwise, told from the logits."""
        if self.cap is None:
            return self.scale
        return self.scale * (1 - (logits / self.cap).square())

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return self.finish(functional.linear(states, self.weight, self.bias).float())


def read_unembedding(model: nn.Module) -> Unembedding:
    """What the configuration says of the logits (Gemma's cap, Cohere's and Granite's scale)."""
    config: Any = model.config
    scale = 1.0
    if getattr(config, "logit_scale", None):
        scale = float(config.logit_scale)
    if getattr(config, "logits_scaling", None):
        scale = 1.0 / float(config.logits_scaling)
    cap = getattr(config, "final_logit_softcapping", None)
    module: Any = model.get_output_embeddings()  # type: ignore[operator]
    return Unembedding(module.weight, getattr(module, "bias", None), scale, float(cap) if cap else None)
