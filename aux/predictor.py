"""The auxiliary model where activations are made: from taps on the device to coordinates, with little copied.

Taps are normalised, converted and joined in one pass; the hidden layer, by far the largest array, is made some rows at
a time. The products are those of `AuxModel.forward` and nothing is left out of them: what they cost beside the language
model is in docs/LOG.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aux.model import AuxModel

#: Hidden activations held at once, in numbers: on a processor about what its caches hold, on a GPU what fills it.
CPU_HIDDEN, GPU_HIDDEN = 2**22, 2**28


class Predictor:
    """An auxiliary model for prediction alone."""

    def __init__(self, model: AuxModel, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.factor = 1 / self.model.input_scale
        self.offset = -self.model.input_mean * self.factor
        hidden = CPU_HIDDEN if device.type == "cpu" else GPU_HIDDEN
        self.rows = max(1, hidden // model.shape.hidden)

    def normalised(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """(x - m) / s of parts (contexts, T, width) side by side, (rows, I): centred before anything is rounded."""
        contexts, length, _ = parts[0].shape
        found = torch.empty(contexts, length, self.model.shape.inputs, device=self.factor.device)
        begin = 0
        for part in parts:
            own = slice(begin, begin + part.shape[2])
            torch.addcmul(self.offset[own], part.float(), self.factor[own], out=found[:, :, own])
            begin += part.shape[2]
        assert begin == self.model.shape.inputs, (begin, self.model.shape.inputs)
        return found.flatten(0, 1)

    @torch.no_grad()
    def __call__(self, parts: Sequence[torch.Tensor], *, bfloat16: bool = False) -> torch.Tensor:
        """Coordinates (rows, P), float32, of parts (contexts, T, width): context by context, then by position."""
        return torch.cat([self.decoded(rows, bfloat16) for rows in self.normalised(parts).split(self.rows)])

    def decoded(self, normalised: torch.Tensor, bfloat16: bool) -> torch.Tensor:
        with torch.autocast(normalised.device.type, torch.bfloat16, enabled=bfloat16):
            hidden = self.model.encode(normalised)
        return self.model.decode(hidden.float(), normalised) * self.model.target_scale + self.model.target_mean
