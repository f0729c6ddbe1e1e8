"""Draws for the estimator `gaussian-gradient`: where X ~ N(0, I/γ), the gradient of L on all reference contexts.

No chain: draws are independent, in pairs ±X. A draw that is kept is the direction v = ∇L(w* + X)/γ, scaled to unit mean
square so that any precision holds it; its length is kept apart. X itself is not kept, it follows from its seed. Of the
full model only L is kept: nothing but its mean and its shift is asked of it. With the control `sampler: gaussian` every
direction is replaced by isotropic noise of the same length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from scale.config import SGLDConfig
from scale.draws.chains import ChainKey, mean_losses, reference_of
from scale.draws.gaussian import TINY, normal
from scale.draws.gradients import mean_gradients
from scale.model.batches import Budget
from scale.model.tail import Tail
from scale.model.variants import size_of
from scale.seeds import seed_for

SIGNS = (1, -1)
#: Receives what is kept of one draw of every chain, by the number of its row.
Keep = Callable[[int, np.ndarray], None]


def point(component: str, chain: int, pair: int, parameters: int, settings: SGLDConfig, device: str) -> torch.Tensor:
    """X of one pair: offsets from the trained weights, (parameters,)."""
    seed = seed_for(settings.seed, component, chain, "pair", pair)
    return settings.localization**-0.5 * normal(parameters, seed, device)


def lengths_of(directions: torch.Tensor) -> np.ndarray:
    found: np.ndarray = torch.linalg.vector_norm(directions, dim=1).double().cpu().numpy()
    return found


def as_stored(directions: torch.Tensor, settings: SGLDConfig) -> np.ndarray:
    """Every direction with unit mean square, in the precision that draws are kept in."""
    norms = torch.linalg.vector_norm(directions, dim=1).clamp_min(TINY)
    units = directions * (directions.shape[1] ** 0.5 / norms)[:, None]
    found: np.ndarray = units.to(getattr(torch, settings.storage)).cpu().numpy()
    return found


class DirectionGroup:
    """Directions of a group of chains on their way; what is called a chain is a stream of independent draws."""

    def __init__(self, keys: Sequence[ChainKey], pool: Tail, settings: SGLDConfig, budget: Budget) -> None:
        self.keys, self.settings, self.budget = list(keys), settings, budget
        self.reference = reference_of(pool, settings)
        self.parameters = size_of(keys[0].component, pool.language_model.parameters)
        self.keeps_directions = keys[0].component.kind != "full"
        self.width, self.rows = self.parameters if self.keeps_directions else 0, settings.draws
        self.loss = np.full((len(keys), settings.draws), np.nan)
        self.lengths = np.ones((len(keys), settings.draws))
        self.pairs = 0

    def points(self, pair: int) -> torch.Tensor:
        device = self.reference.tokens.device.type
        return torch.stack(
            [point(k.component.name, k.chain, pair, self.parameters, self.settings, device) for k in self.keys]
        )

    def run(self, keep: Keep, checkpoint: Callable[[], None] | None = None) -> torch.Tensor:
        """To the end; ``keep`` receives what is kept of the draws (chains, parameters). Returns the lengths."""
        every = self.settings.checkpoint_every
        while 2 * self.pairs < self.settings.draws:
            self.draw_pair(keep)
            self.pairs += 1
            if checkpoint is not None and every and self.pairs % every == 0:
                checkpoint()
        self.finish(keep)
        return torch.from_numpy(self.lengths)

    def draw_pair(self, keep: Keep) -> None:
        """The next two draws, at ±X."""
        for index, offsets in self.both():
            if not self.keeps_directions:
                self.loss[:, index] = mean_losses(self.reference, self.keys, offsets, self.budget)
                continue
            directions = self.directions(index, offsets)
            self.lengths[:, index] = lengths_of(directions)
            keep(index, as_stored(directions, self.settings))

    def finish(self, keep: Keep) -> None:
        """After the last pair; here every draw has been kept."""

    def both(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Number and offsets of the next two draws."""
        offsets = self.points(self.pairs)
        for place, sign in enumerate(SIGNS):
            yield 2 * self.pairs + place, sign * offsets

    def directions(self, index: int, offsets: torch.Tensor) -> torch.Tensor:
        """v (chains, parameters) at some points, the draw of that number; L is noted."""
        self.loss[:, index], slopes = mean_gradients(self.reference, self.keys, offsets, self.budget)
        if self.settings.sampler == "gaussian":
            slopes = self.isotropic(index, torch.linalg.vector_norm(slopes, dim=1))
        return slopes / self.settings.localization

    def isotropic(self, index: int, norms: torch.Tensor) -> torch.Tensor:
        """Noise of the same lengths, the control: directions that know nothing of the loss."""
        seeds = [seed_for(self.settings.seed, key.component.name, key.chain, "gaussian", index) for key in self.keys]
        noise = torch.stack([normal(self.parameters, seed, norms.device.type) for seed in seeds]).to(norms.device)
        return noise * (norms / torch.linalg.vector_norm(noise, dim=1))[:, None]

    def state(self) -> dict[str, torch.Tensor]:
        arrays = {"draw_loss": self.loss, "lengths": self.lengths, "pairs": np.array(self.pairs)}
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.loss[:], self.lengths[:] = state["draw_loss"].numpy(), state["lengths"].numpy()
        self.pairs = int(state["pairs"])
