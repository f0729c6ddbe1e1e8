"""Chains that share a stack, stop in the middle, and go on."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch.utils._python_dispatch import TorchDispatchMode

from scale.config import SGLDConfig
from scale.draws.sgld import Gradient, Langevin, rows_at_once, sample
from scale.errors import UserError

PARAMETERS = 1003  # neither a multiple of a vector register nor of a page
SETTINGS = SGLDConfig(step_size=0.01, nbeta=5.0, localization=4.0, burn_in=3, draws=4, steps_between_draws=2)
SAMPLERS = [("sgld", 5.0), ("rmsprop-sgld", 5.0), ("gaussian", 5.0), ("sgld", 0.0), ("rmsprop-sgld", 0.0)]
CURVATURE = torch.linspace(0.1, 9, PARAMETERS)


def settings_for(sampler: str, nbeta: float) -> SGLDConfig:
    return replace(SETTINGS, sampler=sampler, nbeta=nbeta)  # type: ignore[arg-type]


def seeded(*seeds: int, where: str = "cpu") -> list[torch.Generator]:
    return [torch.Generator(where).manual_seed(seed) for seed in seeds]


def noisy(generators: list[torch.Generator], wrong: dict[int, float] | None = None) -> Gradient:
    """A quadratic loss with minibatch noise from the generators; ``wrong`` spoils gradients of the sixth step."""
    calls = []

    def gradient(offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        shift = torch.stack([torch.rand((), generator=g, device=g.device) for g in generators])[:, None].to(offsets)
        slope = CURVATURE.to(offsets) * (offsets - shift)
        for chain, value in (wrong or {}).items():
            if len(calls) == 6:
                slope[chain, 17] = value
        return slope.square().mean(dim=1).cpu(), slope

    return gradient


def run(
    settings: SGLDConfig, *seeds: int, wrong: dict[int, float] | None = None, device: str = "cpu", where: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws (draws, chains, parameters) and losses (chains, steps); the generators are of ``where``."""
    generators, kept = seeded(*seeds, where=where), []
    langevin = Langevin(settings, PARAMETERS, generators, device)
    losses = sample(langevin, noisy(generators, wrong), lambda index, draw: kept.append(draw.to("cpu", copy=True)))
    return torch.stack(kept), losses


@pytest.mark.parametrize(("sampler", "nbeta"), SAMPLERS)
def test_the_path_is_that_of_the_formula(sampler: str, nbeta: float) -> None:
    settings = settings_for(sampler, nbeta)
    generator, x, squares = torch.Generator().manual_seed(8), np.zeros(PARAMETERS), np.zeros(PARAMETERS)
    curvature, expected = CURVATURE.numpy().astype(float), []
    for step in range(1, settings.total_steps + 1):
        slope = curvature * (x - torch.rand((), generator=generator).item())
        if nbeta > 0:
            squares = settings.rmsprop_decay * squares + (1 - settings.rmsprop_decay) * slope**2
        scale = 1.0 if sampler == "sgld" else 1 / (settings.rmsprop_stability + np.sqrt(squares))
        eta = torch.randn(PARAMETERS, generator=generator).numpy()
        drift = nbeta * slope + settings.localization * x
        x = x - settings.step_size / 2 * scale * drift + np.sqrt(settings.step_size * scale) * eta
        if step in (5, 7, 9, 11):
            expected.append(x)
    draws, losses = run(settings, 8)
    if sampler == "gaussian":
        assert np.allclose(draws[:, 0].norm(dim=1), np.linalg.norm(expected, axis=1), rtol=1e-5)
    else:
        assert np.allclose(draws[:, 0], expected, atol=1e-5)
    assert losses.shape == (1, 11)
    assert losses.dtype == torch.float64


@pytest.mark.parametrize(("sampler", "nbeta"), SAMPLERS)
def test_a_chain_is_the_same_alone_and_in_any_stack(sampler: str, nbeta: float) -> None:
    settings = settings_for(sampler, nbeta)
    draws, losses = run(settings, 3, 1, 4)
    for chain, seed in enumerate((3, 1, 4)):
        alone, trace = run(settings, seed)
        assert torch.equal(draws[:, chain], alone[:, 0])
        assert torch.equal(losses[chain], trace[0])
    turned, _ = run(settings, 4, 3)
    assert torch.equal(turned, draws[:, [2, 0]])


@pytest.mark.parametrize("rows", [2, 3])
@pytest.mark.parametrize(("sampler", "nbeta"), SAMPLERS)
def test_chains_moved_by_one_operation(monkeypatch: pytest.MonkeyPatch, sampler: str, nbeta: float, rows: int) -> None:
    """As on an accelerator; to rounding, what one at a time gives. A gradient in their midst is not finite."""
    settings, wrong = settings_for(sampler, nbeta), {1: math.nan}
    singly, _ = run(settings, 3, 1, 4, wrong=wrong)
    monkeypatch.setattr("scale.draws.sgld.rows_at_once", lambda device, parameters: rows)
    together, _ = run(settings, 3, 1, 4, wrong=wrong)
    assert torch.allclose(together, singly, atol=1e-5)


def test_an_accelerator_moves_few_large_chains_or_many_small_ones_at_once() -> None:
    assert rows_at_once(torch.device("cpu"), 10) == 1
    assert rows_at_once(torch.device("cuda"), 30_000) > 64
    assert rows_at_once(torch.device("cuda"), 33_000_000) == 1


def test_chains_are_independent_of_one_another() -> None:
    settings = replace(SETTINGS, nbeta=0.0, burn_in=20, draws=2, steps_between_draws=1)
    last, *_ = run(settings, *range(6))
    correlation = np.corrcoef(last[-1].numpy()) - np.eye(6)
    assert np.abs(correlation).max() < 4 / math.sqrt(PARAMETERS)
    assert np.corrcoef(last[0, 0], last[1, 0])[0, 1] > 0.5  # two draws of one chain are not


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sampler", ["sgld", "rmsprop-sgld"])
def test_a_gradient_that_is_not_finite_stops_its_chain_alone(sampler: str, value: float) -> None:
    """Draws are kept after the fifth step, the sixth, which is spoilt, and the seventh."""
    settings = replace(settings_for(sampler, 5.0), burn_in=4, draws=3, steps_between_draws=1)
    fair, _ = run(settings, 1, 2, 3)
    spoilt, _ = run(settings, 1, 2, 3, wrong={1: value})
    assert torch.equal(spoilt[:, [0, 2]], fair[:, [0, 2]])
    assert torch.equal(spoilt[1, 1], spoilt[0, 1])
    assert not torch.equal(spoilt[2, 1], spoilt[1, 1])  # it moves on with the next finite gradient
    assert torch.isfinite(spoilt).all()


class StoppedError(Exception):
    pass


def run_in_two(settings: SGLDConfig, every: int, device: str = "cpu", where: str = "cpu") -> tuple[torch.Tensor, ...]:
    """As `run` with seeds 3 and 5, killed at the second step after each checkpoint and resumed from its bytes."""
    saved, kept = b"", {}

    def attempt(generators: list[torch.Generator]) -> torch.Tensor:
        langevin = Langevin(settings, PARAMETERS, generators, device)
        if saved:
            langevin.restore(load(saved))
        begun, gradient = langevin.steps, noisy(generators)

        def until_killed(offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if langevin.steps == begun + every + 1:
                raise StoppedError
            return gradient(offsets)

        def keep(index: int, draw: torch.Tensor) -> None:
            kept[index] = draw.to("cpu", copy=True)

        def checkpoint() -> None:
            nonlocal saved
            saved = save({key: value.cpu() for key, value in langevin.state().items()})

        return sample(langevin, until_killed, keep, checkpoint=checkpoint, checkpoint_every=every)

    generators = seeded(3, 5, where=where)
    for _ in range(settings.total_steps):
        try:
            losses = attempt(generators)
            return torch.stack([kept[index] for index in range(settings.draws)]), losses
        except StoppedError:
            generators = seeded(99, 99, where=where)  # the state holds the right ones
    raise AssertionError("no progress")


@pytest.mark.parametrize("every", [1, 2, 4, 7])
@pytest.mark.parametrize(("sampler", "nbeta"), SAMPLERS)
def test_resuming_gives_the_same_bits(sampler: str, nbeta: float, every: int) -> None:
    settings = settings_for(sampler, nbeta)
    draws, losses = run_in_two(settings, every)
    whole, trace = run(settings, 3, 5)
    assert torch.equal(draws, whole)
    assert torch.equal(losses, trace)


@pytest.mark.parametrize("missing", ["offsets", "squares", "generators"])
def test_every_part_of_the_state_matters(missing: str) -> None:
    settings, generators = SETTINGS, seeded(3)
    langevin = Langevin(settings, PARAMETERS, generators, "cpu")
    for _ in range(4):
        langevin.step(noisy(generators))
    state = load(save(langevin.state()))
    fresh = Langevin(settings, PARAMETERS, seeded(7), "cpu").state()

    def last(state: dict[str, torch.Tensor]) -> torch.Tensor:
        generators = seeded(6)
        resumed = Langevin(settings, PARAMETERS, generators, "cpu")
        resumed.restore(state)
        sample(resumed, noisy(generators), lambda index, draw: None)
        return resumed.offsets

    assert torch.equal(last(state), run(settings, 3)[0][-1])
    assert not torch.equal(last(state | {missing: fresh[missing]}), last(state))


def test_draws_and_checkpoints_come_when_they_should() -> None:
    events: list[tuple[int, int | str]] = []
    generators = seeded(1)
    langevin = Langevin(SETTINGS, PARAMETERS, generators, "cpu")
    sample(
        langevin,
        noisy(generators),
        lambda index, draw: events.append((langevin.steps, index)),
        checkpoint=lambda: events.append((langevin.steps, "checkpoint")),
        checkpoint_every=5,
    )
    assert events == [(5, 0), (5, "checkpoint"), (7, 1), (9, 2), (10, "checkpoint"), (11, 3)]


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in [*args, *(kwargs or {}).values()] if torch.is_tensor(a)}
        if torch.is_tensor(made) and made.untyped_storage().data_ptr() not in given:
            self.numbers = max(self.numbers, made.numel())
        return made


@pytest.mark.parametrize(("sampler", "nbeta"), SAMPLERS)
def test_a_step_makes_no_copy_of_a_chain(sampler: str, nbeta: float) -> None:
    langevin = Langevin(settings_for(sampler, nbeta), PARAMETERS, seeded(1, 2), "cpu")
    slopes = torch.ones(2, PARAMETERS)
    with Largest() as largest:
        langevin.step(lambda offsets: (torch.zeros(2), slopes))
    assert largest.numbers < 10
    with Largest() as control:
        slopes + slopes
    assert control.numbers == 2 * PARAMETERS


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize(("sampler", "nbeta"), SAMPLERS)
def test_on_a_gpu_as_on_a_cpu(sampler: str, nbeta: float, where: str) -> None:
    """A chain alone, in a stack, and resumed; with generators of the CPU, also the numbers of the CPU."""
    settings = settings_for(sampler, nbeta)
    draws, losses = run_in_two(settings, 4, "cuda", where)
    for chain, seed in enumerate((3, 5)):
        alone, trace = run(settings, seed, device="cuda", where=where)
        assert torch.allclose(alone[:, 0], draws[:, chain], atol=1e-6)
        assert torch.allclose(trace[0], losses[chain])
    if where == "cpu":
        assert torch.allclose(draws, run(settings, 3, 5)[0], atol=1e-5)


@pytest.mark.parametrize(("key", "value"), [("checkpoint_every", -1), ("burn_in", -1), ("nbeta", -0.1)])
def test_settings_that_make_no_sense(key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"sgld.{key} must not be negative"):
        replace(SETTINGS, **{key: value})  # type: ignore[arg-type]
