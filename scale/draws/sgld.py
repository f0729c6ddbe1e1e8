"""Stochastic gradient Langevin dynamics on a stack of chains that advance together.

    x <- x - (ε/2) G [ nβ ∇L(w* + x) + γ x ] + sqrt(ε G) η,   η ~ N(0, I)

x is a chain's offset from the trained weights w*. ε is devinterp's convention: drift ε/2, noise sqrt(ε).

    sgld          G = 1 (Welling & Teh 2011)
    rmsprop-sgld  G = 1 / (λ + sqrt(V)), V the running mean of squared gradients of the loss in the posterior, from
                  zero and without bias correction (Li et al. 2016, without the divergence term Γ)

Two controls. With nβ = 0 there is no loss in the posterior: gradients are not read, V stays zero, and G is the constant
1 / λ that `rmsprop-sgld` has wherever gradients are small against λ. Such a chain differs from its counterpart by the
loss alone: not by its step, and not by the bias that a step brings. `gaussian` runs `rmsprop-sgld` and replaces each
draw, when it is kept, by an isotropic vector of the same norm: sizes match draw by draw, directions know nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from scale.config import SGLDConfig
from scale.seeds import seed_for

#: Offsets (chains, parameters) to minibatch losses (chains,) and gradients (chains, parameters). It draws its
#: minibatches from the generators of the chains. With nβ = 0 the gradients are not read and may be empty.
Gradient = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

#: Numbers that an accelerator updates at once; bounds the memory for noise and preconditioner beside the chains.
NUMBERS_AT_ONCE = 2**24


class Langevin:
    """The state of a stack of chains of equally many parameters.

    The random numbers of chain k come from ``generators[k]`` alone, so that its path does not depend on the chains
    beside it. A generator may be of another device than the chains.
    """

    def __init__(
        self,
        settings: SGLDConfig,
        parameters: int,
        generators: Sequence[torch.Generator],
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        chains = len(generators)
        self.settings, self.generators = settings, list(generators)
        self.offsets = torch.zeros(chains, parameters, device=device, dtype=dtype)
        self.adaptive = settings.sampler != "sgld"
        self.squares = torch.zeros_like(self.offsets) if self.adaptive and settings.nbeta > 0 else None
        self.rows = min(chains, rows_at_once(self.offsets.device, parameters))
        self.noise = torch.empty_like(self.offsets[: self.rows])
        self.scale = torch.empty_like(self.noise) if self.squares is not None else None
        self.trace: list[torch.Tensor] = []

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return len(self.trace)

    @property
    def losses(self) -> torch.Tensor:
        """Minibatch losses of all steps so far, (chains, steps) float64."""
        if not self.trace:
            return torch.zeros(len(self.generators), 0, dtype=torch.float64)
        return torch.stack(self.trace, dim=1)

    def step(self, gradient: Gradient) -> torch.Tensor:
        """Advance every chain whose gradient is finite; the others stay where they are. Returns minibatch losses."""
        losses, slopes = gradient(self.offsets)
        for rows in self._movable(slopes):
            self._move(rows, slopes)
        self.trace.append(losses.detach().to("cpu", torch.float64))
        return losses

    def _movable(self, slopes: torch.Tensor) -> Iterator[slice]:
        """The chains to be moved, `rows` at once."""
        chains = len(self.generators)
        finite = torch.ones(chains, dtype=torch.bool)
        if self.settings.nbeta > 0:
            assert slopes.shape == self.offsets.shape
            finite = torch.linalg.vector_norm(slopes, float("inf"), dim=1).isfinite().cpu()
        for start in range(0, chains, self.rows):
            stop = min(start + self.rows, chains)
            if finite[start:stop].all():
                yield slice(start, stop)
            else:
                yield from (slice(k, k + 1) for k in range(start, stop) if finite[k])

    @torch.no_grad()
    def _move(self, rows: slice, slopes: torch.Tensor) -> None:
        settings, x = self.settings, self.offsets[rows]
        pull, push = -0.5 * settings.step_size * settings.localization, -0.5 * settings.step_size * settings.nbeta
        noise = self._normal(self.noise[: len(x)], self.generators[rows])
        if self.squares is None:
            constant = 1 / settings.rmsprop_stability if self.adaptive else 1.0
            x.mul_(1 + pull * constant)
            if push:
                x.add_(slopes[rows], alpha=push)
            x.add_(noise, alpha=(settings.step_size * constant) ** 0.5)
        else:
            scale = self._precondition(rows, slopes[rows])
            x.addcmul_(x, scale, value=pull).addcmul_(slopes[rows], scale, value=push)
            x.addcmul_(noise, scale.sqrt_(), value=settings.step_size**0.5)

    def _precondition(self, rows: slice, slopes: torch.Tensor) -> torch.Tensor:
        """G, after V has taken in the squares of ``slopes``."""
        assert self.squares is not None
        assert self.scale is not None
        decay = self.settings.rmsprop_decay
        squares = self.squares[rows].mul_(decay).addcmul_(slopes, slopes, value=1 - decay)
        scale = torch.sqrt(squares, out=self.scale[: len(slopes)])
        return scale.add_(self.settings.rmsprop_stability).reciprocal_()

    def _normal(self, out: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """Standard normal numbers, each row from its generator."""
        for row, generator in zip(out, generators, strict=True):
            if generator.device.type == row.device.type:
                row.normal_(generator=generator)
            else:
                row.copy_(torch.randn(row.shape, generator=generator, dtype=row.dtype, device=generator.device))
        return out

    def draw(self, index: int) -> torch.Tensor:
        """What is kept as draw ``index``, (chains, parameters): the offsets, which the next step overwrites."""
        if self.settings.sampler != "gaussian":
            return self.offsets
        apart = [torch.Generator(g.device) for g in self.generators]
        for own, generator in zip(apart, self.generators, strict=True):
            own.manual_seed(seed_for("gaussian", generator.initial_seed(), index))
        noise = self._normal(torch.empty_like(self.offsets), apart)
        return noise.mul_((row_norms(self.offsets) / row_norms(noise)).to(noise.dtype))

    def state(self) -> dict[str, torch.Tensor]:
        """All that a resumed run needs. Tensors of the chains are not copied: they hold until the next step."""
        state = {
            "offsets": self.offsets,
            "losses": self.losses,
            "generators": torch.stack([generator.get_state() for generator in self.generators]),
        }
        return state if self.squares is None else state | {"squares": self.squares}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue where `state` was taken, under the same settings and with as many chains."""
        assert state["offsets"].shape == self.offsets.shape
        self.offsets.copy_(state["offsets"])
        if self.squares is not None:
            self.squares.copy_(state["squares"])
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved.to("cpu", copy=True))  # torch crashes on a row of a larger tensor
        self.trace = list(state["losses"].cpu().unbind(1))


def rows_at_once(device: torch.device, parameters: int) -> int:
    """Chains to be moved by one operation.

    One on a CPU: its rounding is then that of the chain alone, and a small chain stays in cache.
    """
    return 1 if device.type == "cpu" else max(1, NUMBERS_AT_ONCE // parameters)


def row_norms(rows: torch.Tensor) -> torch.Tensor:
    """Euclidean norms (chains, 1), in float64 piece by piece: float32 is off by 0.2 % at 33 million numbers."""
    pieces = [torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in rows.split(2**20, dim=1)]
    return torch.linalg.vector_norm(torch.stack(pieces), dim=0)[:, None]


def sample(
    langevin: Langevin,
    gradient: Gradient,
    keep: Callable[[int, torch.Tensor], None],
    *,
    checkpoint: Callable[[], None] | None = None,
    checkpoint_every: int = 0,
) -> torch.Tensor:
    """Run the chains to their end from where they stand; returns the losses of all steps, (chains, steps) float64.

    ``keep(index, draws)`` receives every draw, (chains, parameters), and must copy what it keeps. ``checkpoint`` is
    called every ``checkpoint_every`` steps, when all draws up to that step have been kept.
    """
    settings = langevin.settings
    while langevin.steps < settings.total_steps:
        langevin.step(gradient)
        since = langevin.steps - settings.burn_in
        if since > 0 and since % settings.steps_between_draws == 0:
            index = since // settings.steps_between_draws - 1
            keep(index, langevin.draw(index))
        if checkpoint is not None and checkpoint_every and langevin.steps % checkpoint_every == 0:
            checkpoint()
    return langevin.losses
