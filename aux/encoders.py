"""The encoders of the auxiliary model: normalised activations x (N, I) to hidden activations h (N, H)."""

from __future__ import annotations

import math

import torch
from torch import nn

from aux.config import Architecture


class ReluLayer(nn.Linear):
    """h = relu(E x + b)."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.relu_(super().forward(inputs))


class GatedLayer(nn.Module):
    """h = relu(G x + g) ⊙ (E x + b): a unit is silent where its gate is shut, and of either sign where it is open."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.utils.skip_init(ReluLayer, inputs, hidden)
        self.value = nn.utils.skip_init(nn.Linear, inputs, hidden)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.gate(inputs) * self.value(inputs)


def make_encoder(architecture: Architecture, inputs: int, hidden: int) -> nn.Module:
    """The encoder of that name; its weights are not yet set. `linear` has none: h = x."""
    match architecture:
        case "linear":
            assert hidden == inputs, (hidden, inputs)
            return nn.Identity()
        case "one-layer":
            return nn.utils.skip_init(ReluLayer, inputs, hidden)
        case "two-layer":
            widths = ((inputs, hidden), (hidden, hidden))
            return nn.Sequential(*(nn.utils.skip_init(ReluLayer, *pair) for pair in widths))
        case "gated":
            return GatedLayer(inputs, hidden)


def initialise(layers: nn.Module, generator: torch.Generator) -> None:
    """Fan-in uniform weights that keep the size of what passes through, from the generator alone; zero biases."""
    for layer in layers.modules():
        if isinstance(layer, nn.Linear):
            gain = math.sqrt(2.0) if isinstance(layer, ReluLayer) else 1.0
            bound = gain * math.sqrt(3.0 / layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.zeros_(layer.bias)
