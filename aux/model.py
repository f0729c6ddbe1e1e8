"""The auxiliary model: activations of the language model to coordinates of susceptibilities.

Legend: I input features (taps x residual width), H hidden units, P predicted coordinates.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from aux.config import Architecture, Base
from aux.encoders import initialise, make_encoder
from aux.ridge import Ridge
from scale.store import written

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class AuxShape:
    """What defines an auxiliary model but for its weights; `hidden` is the width of what is decoded."""

    inputs: int
    hidden: int
    outputs: int
    architecture: Architecture = "one-layer"
    base: Base = "none"


class AuxModel(nn.Module):
    """Hidden activations between normalised activations and coordinates.

    h = encoder(x̂) with x̂ = (x - m) / s, by default one layer relu(E x̂ + b), and y = μ + σ (D h + c + B x̂), with m, s
    the inputs' and μ, σ the targets' training statistics, kept as buffers so that the model takes raw activations and
    returns coordinates in their own units. B, if there is a base, is the ridge regression and is not trained; D then
    starts from zero.
    """

    base: torch.Tensor | None

    input_mean: torch.Tensor
    input_scale: torch.Tensor
    target_mean: torch.Tensor
    target_scale: torch.Tensor

    def __init__(self, shape: AuxShape, *, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = make_encoder(shape.architecture, shape.inputs, shape.hidden)
        self.decoder = nn.utils.skip_init(nn.Linear, shape.hidden, shape.outputs)
        # A generator of its own: the global random state plays no part.
        initialise(self, torch.Generator().manual_seed(seed))
        if shape.base == "ridge":
            nn.init.zeros_(self.decoder.weight)
        self.register_buffer("base", torch.zeros(shape.outputs, shape.inputs) if shape.base == "ridge" else None)
        for name, width in (("input", shape.inputs), ("target", shape.outputs)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_scale", torch.ones(width))

    def encode(self, normalised: torch.Tensor) -> torch.Tensor:
        """Hidden activations (N, H) of normalised activations (N, I)."""
        return self.encoder(normalised)

    def normalised(self, activations: torch.Tensor) -> torch.Tensor:
        """x̂ (N, I) of raw activations (N, I)."""
        return (activations - self.input_mean) / self.input_scale

    def hidden(self, activations: torch.Tensor) -> torch.Tensor:
        """Hidden activations (N, H) of raw activations (N, I)."""
        return self.encode(self.normalised(activations))

    def decode(self, hidden: torch.Tensor, normalised: torch.Tensor) -> torch.Tensor:
        """Coordinates (N, P) in units of the training targets' standard deviations, centred."""
        found = self.decoder(hidden)
        return found if self.base is None else found + nn.functional.linear(normalised, self.base)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """Predicted coordinates (N, P) of raw activations (N, I)."""
        normalised = self.normalised(activations)
        return self.decode(self.encode(normalised), normalised) * self.target_scale + self.target_mean

    def start_from(self, ridge: Ridge) -> None:
        """Take a regression from raw inputs to raw coordinates for the base, and its intercept for c."""
        assert self.base is not None
        scale, spread = self.input_scale.double(), self.target_scale.double()
        weights, intercept = torch.from_numpy(ridge.weights), torch.from_numpy(ridge.intercept)
        self.base.copy_((weights * scale[:, None] / spread).T)
        at_mean = self.input_mean.double() @ weights + intercept
        with torch.no_grad():
            self.decoder.bias.copy_((at_mean - self.target_mean.double()) / spread)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`, the shape."""
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with written(folder / MODEL_FILE) as temporary:
            save_file(tensors, temporary)
        (folder / CONFIG_FILE).write_text(json.dumps(asdict(self.shape), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> AuxModel:
        """Read what `save` wrote, on the CPU, ready for prediction."""
        from safetensors.torch import load_file

        model = cls(AuxShape(**json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))))
        model.load_state_dict(load_file(folder / MODEL_FILE))
        return model.eval()
