"""Draws for the estimator `tangent-gradient`: points of a Langevin chain, and gradients carried along to them.

Of every component: from a point X_0 of its chain the gradient of L on all reference contexts is carried on for n steps,
and the chain goes n + 1, to a point X (`scale.draws.tangent`). What is kept is X and the direction there, scaled to
unit mean square; its length is kept apart. Chains go in pairs whose noise has opposite signs: either is a chain like
any other, and in their mean terms of odd order cancel. Of the full model points alone are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from scale.config import SGLDConfig
from scale.draws.chains import ChainKey, mean_losses, means_and_slopes, reference_of
from scale.draws.gaussian import TINY
from scale.draws.gradients import mean_gradients
from scale.draws.tangent import Flow, Slopes, Walkers, lags
from scale.model.batches import Budget
from scale.model.tail import Tail
from scale.model.variants import size_of
from scale.seeds import generator_for, seed_for

#: Half the distance over which gradients are compared, in standard deviations of the localisation.
REACH = 0.1
SIGNS = (1, -1)


def lags_of(key: ChainKey, settings: SGLDConfig, theta: float) -> np.ndarray:
    """Steps for which a chain carries the gradients of each of its pairs of draws."""
    shift = generator_for(settings.seed, "lags", key.component.name, key.chain).random()
    return lags(settings.draws // 2, shift, theta)


class TangentGroup:
    """Pairs of chains on their way. Rows of everything: X and X' of the first key, then of the next."""

    def __init__(self, keys: Sequence[ChainKey], pool: Tail, settings: SGLDConfig, budget: Budget) -> None:
        self.keys, self.pool, self.settings, self.budget = list(keys), pool, settings, budget
        self.reference, device = reference_of(pool, settings), pool.tokens.device
        self.width = size_of(keys[0].component, pool.language_model.parameters)
        self.carries = keys[0].component.kind != "full"
        self.rows = settings.draws * (2 if self.carries else 1)
        self.generators = [
            torch.Generator(device).manual_seed(seed_for(settings.seed, "tangent", key.component.name, key.chain))
            for key in keys
        ]
        theta = settings.step_size * settings.localization / 2
        self.flow = Flow(settings.localization, settings.nbeta, theta, REACH * settings.localization**-0.5)
        self.lags = np.stack([lags_of(key, settings, theta) for key in keys])
        self.every = np.arange(len(keys))
        self.walkers = self.flow.start(self.normals(self.every), self.normals(self.every))
        self.loss = np.full((len(keys), settings.draws), np.nan)
        self.lengths = np.ones((len(keys), settings.draws))
        self.pairs = 0

    @property
    def both_keys(self) -> list[ChainKey]:
        return [key for key in self.keys for _ in SIGNS]

    def normals(self, some: np.ndarray) -> torch.Tensor:
        """For the chains of these keys: each number with both signs."""
        found = torch.empty(len(some), len(SIGNS), self.width, device=self.pool.tokens.device)
        for place, index in enumerate(some):
            found[place, 0].normal_(generator=self.generators[index])
        torch.neg(found[:, 0], out=found[:, 1])
        return found.flatten(0, 1)

    def slopes(self, some: np.ndarray) -> Slopes:
        """Gradients at the points of these keys' chains, once or several times over, on one minibatch for each key."""
        size, count = self.settings.batch_contexts, len(self.pool.tokens)
        chosen = torch.stack(
            [torch.randint(count, (size,), generator=g, device=g.device) for g in (self.generators[k] for k in some)]
        ).repeat_interleave(len(SIGNS), dim=0)
        keys = [self.keys[k] for k in some for _ in SIGNS]

        def at(points: torch.Tensor) -> torch.Tensor:
            times = len(points) // len(keys)
            index, every, found = chosen.repeat(times, 1), keys * times, torch.empty_like(points)

            def part(begin: int, end: int) -> None:
                own = slice(begin, end)
                found[own] = means_and_slopes(self.pool, index[own], every[own], points[own])[1]

            tokens = size * self.pool.tokens.shape[1]
            self.budget.ranges(len(points), lambda: self.budget.variants(tokens, self.width), part)
            return found

        return at

    def advance(self, steps: int) -> None:
        """All chains, with nothing carried."""
        for _ in range(steps):
            slopes = self.slopes(self.every)(self.walkers.points)
            self.walkers = self.flow.step(self.walkers, slopes, self.normals(self.every))

    def carry(self, carried: torch.Tensor, lags: np.ndarray) -> torch.Tensor:
        """What the chains have carried when each has gone as many steps as it is to go."""
        for step in range(lags.max()):
            some = self.every[step < lags]
            rows = torch.from_numpy((len(SIGNS) * some[:, None] + np.arange(len(SIGNS))).ravel()).to(carried.device)
            own = Walkers(self.walkers.points[rows], self.walkers.noise[rows])
            moved, carried[rows] = self.flow.carry(own, carried[rows], self.normals(some), self.slopes(some))
            self.walkers.points[rows], self.walkers.noise[rows] = moved.points, moved.noise
        return carried

    def run(
        self, keep: Callable[[int, np.ndarray], None], checkpoint: Callable[[], None] | None = None
    ) -> torch.Tensor:
        """To the end; ``keep`` receives X, X' and their directions, pair by pair. Returns the directions' lengths."""
        every = self.settings.checkpoint_every
        if not self.pairs:
            self.advance(self.settings.burn_in)
        while 2 * self.pairs < self.settings.draws:
            self.advance(self.settings.steps_between_draws)
            draw = self.draw_and_direction if self.carries else self.draw
            draw(self.pairs, keep)
            self.pairs += 1
            if checkpoint is not None and every and self.pairs % every == 0:
                checkpoint()
        return torch.from_numpy(self.lengths)

    def draw(self, pair: int, keep: Callable[[int, np.ndarray], None]) -> None:
        """Points alone, and L at what is kept of them."""
        stored = self.stored(self.walkers.points)
        losses = mean_losses(self.reference, self.both_keys, stored.float(), self.budget)
        self.loss[:, 2 * pair : 2 * pair + 2] = losses.reshape(-1, len(SIGNS))
        for sign in range(len(SIGNS)):
            keep(2 * pair + sign, stored[sign :: len(SIGNS)].cpu().numpy())

    def draw_and_direction(self, pair: int, keep: Callable[[int, np.ndarray], None]) -> None:
        """Points, and what was carried there from where L is taken."""
        both = slice(2 * pair, 2 * pair + 2)
        losses, carried = mean_gradients(self.reference, self.both_keys, self.walkers.points, self.budget)
        self.loss[:, both] = losses.reshape(-1, len(SIGNS))
        self.walkers = self.flow.step(self.walkers, carried, self.normals(self.every))
        carried = self.carry(carried, self.lags[:, pair])
        norms = torch.linalg.vector_norm(carried, dim=1)
        lengths = norms.double().cpu().numpy().reshape(-1, len(SIGNS)) / self.settings.localization
        self.lengths[:, both] = lengths
        units = carried * (self.width**0.5 / norms.clamp_min(TINY))[:, None]
        for place, rows in enumerate((self.walkers.points, units)):
            stored = self.stored(rows)
            for sign in range(len(SIGNS)):
                keep(4 * pair + 2 * place + sign, stored[sign :: len(SIGNS)].cpu().numpy())

    def stored(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.to(getattr(torch, self.settings.storage))

    def state(self) -> dict[str, torch.Tensor]:
        """All that a resumed run needs. The chains' tensors are not copied: they hold until the next step."""
        arrays = {"draw_loss": self.loss, "lengths": self.lengths, "pairs": np.array(self.pairs)}
        return {
            **{name: torch.from_numpy(array.copy()) for name, array in arrays.items()},
            **vars(self.walkers),
            "generators": torch.stack([generator.get_state() for generator in self.generators]),
        }

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.loss[:], self.lengths[:] = state["draw_loss"].numpy(), state["lengths"].numpy()
        self.walkers = Walkers(*(state[name].to(self.walkers.points, copy=True) for name in ("points", "noise")))
        self.pairs = int(state["pairs"])
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved.to("cpu", copy=True))
