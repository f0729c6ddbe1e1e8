"""A small sparse autoencoder, to have features to compare clusters with: top-k units, a plain recipe.

    z = top_k( relu( E (x - b) + c ) ),    x̂ = D z + b,    D's columns of length one        (Gao et al. 2024)

on activations x scaled to a mean squared length of their width. Units that have been on for no token of an epoch are
started anew at the worst-explained tokens. Legend: N tokens, D width, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from scale.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """How the autoencoder is made and trained.

    Args:
        features: Units.
        active: Units on at a token.
        epochs, batch, learning_rate, seed: Of Adam.
    """

    features: int = 1024
    active: int = 16
    epochs: int = 10
    batch: int = 2048
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.features:
            raise UserError(f"active must lie between 1 and features, got {self.active} and {self.features}")


class TopK(nn.Module):
    """The autoencoder; takes raw activations."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: torch.Tensor, scale: float, recipe: Recipe) -> None:
        super().__init__()
        self.active = recipe.active
        generator = torch.Generator().manual_seed(recipe.seed)
        decoder = torch.randn(recipe.features, len(mean), generator=generator)
        self.decoder = nn.Parameter(nn.functional.normalize(decoder, dim=1))
        self.encoder = nn.Parameter(self.decoder.detach().clone())
        self.threshold = nn.Parameter(torch.zeros(recipe.features))
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.tensor(scale))

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and numbers of the features that are on, (N, k) each: as sparsify gives them."""
        units = torch.relu(nn.functional.linear((x - self.mean) * self.scale, self.encoder, self.threshold))
        found = units.topk(self.active, dim=1)
        return found.values, found.indices

    def decode(self, activations: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Activations of the model, centred and scaled."""
        units = torch.zeros(len(activations), len(self.decoder), dtype=activations.dtype)
        return units.scatter(1, numbers, activations) @ self.decoder

    def error(self, x: torch.Tensor) -> torch.Tensor:
        """Squared error of every token (N)."""
        return ((x - self.mean) * self.scale - self.decode(*self.encode(x))).square().sum(dim=1)

    @torch.no_grad()
    def restart(self, dead: torch.Tensor, tokens: torch.Tensor) -> None:
        """Point dead units at some tokens."""
        directions = nn.functional.normalize((tokens - self.mean) * self.scale, dim=1)
        self.decoder[dead], self.encoder[dead], self.threshold[dead] = directions, directions, 0.0


@dataclass(frozen=True)
class Trained:
    """The autoencoder, the share of the activations' variance it explains, and the share of its units never on."""

    model: TopK
    explained: float
    dead: float


def batches(count: int, recipe: Recipe, epoch: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng([recipe.seed, epoch]).permutation(count)
    yield from np.array_split(order, max(1, count // recipe.batch))


def train(activations: np.ndarray, recipe: Recipe | None = None) -> Trained:
    """Fit an autoencoder to activations (N, D)."""
    recipe = recipe or Recipe()
    values = torch.from_numpy(np.ascontiguousarray(activations, dtype=np.float32))
    mean = values.mean(dim=0)
    model = TopK(mean, float((values.shape[1] / (values - mean).square().sum(dim=1).mean()) ** 0.5), recipe)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    for epoch in range(recipe.epochs):
        for rows in batches(len(values), recipe, epoch):
            optimiser.zero_grad()
            model.error(values[torch.from_numpy(rows)]).mean().backward()
            optimiser.step()
            with torch.no_grad():
                model.decoder.copy_(nn.functional.normalize(model.decoder, dim=1))
        errors, used = survey(model, values, recipe)
        if epoch + 1 < recipe.epochs and not used.all():
            dead = torch.nonzero(~used)[: len(values), 0]
            model.restart(dead, values[errors.topk(len(dead)).indices])
    errors, used = survey(model, values, recipe)
    return Trained(model.eval(), 1 - float(errors.mean()) / values.shape[1], float((~used).float().mean()))


@torch.no_grad()
def survey(model: TopK, values: torch.Tensor, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """The error of every token, and which units are on at any."""
    used = torch.zeros(len(model.decoder), dtype=torch.bool)
    errors = []
    for block in values.split(recipe.batch):
        activations, numbers = model.encode(block)
        used[numbers[activations > 0]] = True
        errors.append(model.error(block))
    return torch.cat(errors), used


@torch.no_grad()
def features_of(model: TopK, activations: np.ndarray, batch: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Activations and numbers of the features on at every token, (N, k) each."""
    blocks = torch.from_numpy(np.ascontiguousarray(activations, dtype=np.float32)).split(batch)
    values, numbers = zip(*(model.encode(block) for block in blocks), strict=True)
    return torch.cat(values).numpy(), torch.cat(numbers).numpy()
