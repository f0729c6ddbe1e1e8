"""The auxiliary model: activations of the language model to coordinates of susceptibilities.

Legend: I input features (taps x residual width), H hidden units, P predicted coordinates.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class AuxShape:
    """The sizes that define an auxiliary model."""

    inputs: int
    hidden: int
    outputs: int


class AuxModel(nn.Module):
    """One hidden layer between normalised activations and coordinates.

    h = relu(E (x - m) / s + b) and y = μ + σ (D h + c), with m, s the inputs' and μ, σ the targets' training
    statistics, kept as buffers so that the model takes raw activations and returns coordinates in their own units.
    """

    input_mean: torch.Tensor
    input_scale: torch.Tensor
    target_mean: torch.Tensor
    target_scale: torch.Tensor

    def __init__(self, shape: AuxShape, *, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = nn.utils.skip_init(nn.Linear, shape.inputs, shape.hidden)
        self.decoder = nn.utils.skip_init(nn.Linear, shape.hidden, shape.outputs)
        self._initialise(seed)
        for name, width in (("input", shape.inputs), ("target", shape.outputs)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_scale", torch.ones(width))

    def _initialise(self, seed: int) -> None:
        """Fan-in uniform weights from the seed alone, zero biases: the global random state plays no part."""
        generator = torch.Generator().manual_seed(seed)
        for layer, gain in ((self.encoder, math.sqrt(2.0)), (self.decoder, 1.0)):
            bound = gain * math.sqrt(3.0 / layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.zeros_(layer.bias)

    def encode(self, normalised: torch.Tensor) -> torch.Tensor:
        """Hidden activations (N, H) of normalised activations (N, I)."""
        return torch.relu_(self.encoder(normalised))

    def hidden(self, activations: torch.Tensor) -> torch.Tensor:
        """Hidden activations (N, H) of raw activations (N, I)."""
        return self.encode((activations - self.input_mean) / self.input_scale)

    def decode(self, hidden: torch.Tensor) -> torch.Tensor:
        """Coordinates (N, P) in units of the training targets' standard deviations, centred."""
        return self.decoder(hidden)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """Predicted coordinates (N, P) of raw activations (N, I)."""
        return self.decode(self.hidden(activations)) * self.target_scale + self.target_mean

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`, the shape."""
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / MODEL_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(asdict(self.shape), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> AuxModel:
        """Read what `save` wrote, on the CPU, ready for prediction."""
        from safetensors.torch import load_file

        model = cls(AuxShape(**json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))))
        model.load_state_dict(load_file(folder / MODEL_FILE))
        return model.eval()
