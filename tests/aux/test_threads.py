"""The threads that a training computes in: as many wherever it runs, and the process keeps its own."""

import dataclasses
from contextlib import suppress

import numpy as np
import polars
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from aux import stage
from aux.config import AuxConfig
from aux.fitting import AuxLightning
from aux.model import AuxModel, AuxShape
from aux.threads import computing_in
from aux.training import Trained, train

#: Wide enough that products are shared out in another way to two threads; narrower ones give the same bytes.
CONFIG = AuxConfig(expansion=16, epochs=1, batch_size=256, validation_share=0.25, seed=3, accelerator="cpu")
ROWS, INPUTS, WIDTH = 1000, 300, 128


def algebra() -> set[int]:
    """Threads of the linear algebra beneath numpy and scipy."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def fit(threads: int | None, own: int) -> Trained:
    """Trained by a process that has ``own`` threads."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, INPUTS)).astype(np.float32)
    Y = np.abs(X @ np.random.default_rng(50).normal(size=(INPUTS, 6))).astype(np.float32)
    config = dataclasses.replace(CONFIG, threads=threads)
    torch.set_num_threads(own)
    with threadpool_limits(own, user_api="blas"):
        found = train([X], [Y], np.arange(ROWS) // 50, config, residual_width=WIDTH)
        assert torch.get_num_threads() == own
        assert algebra() == {own}
    return found


def weights(found: Trained) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in found.model.state_dict().values())


def test_the_same_bytes_whatever_the_process_has_if_it_is_set_and_only_then() -> None:
    set_to_two, left = [fit(2, own) for own in (1, 2, 3)], [fit(None, own) for own in (1, 2)]
    assert {weights(found) for found in set_to_two} == {weights(left[1])}
    assert all(found.facts == left[1].facts for found in set_to_two)
    assert weights(left[0]) != weights(left[1])


@pytest.mark.parametrize(("threads", "expected"), [(2, 2), (None, 1)])
def test_processes_that_lightning_starts_take_as_many(threads: int | None, expected: int) -> None:
    """They come with threads of Lightning's own reckoning, and are told when training begins."""
    torch.set_num_threads(1)
    with threadpool_limits(1, user_api="blas"):
        model = AuxModel(AuxShape(3, 4, 2))
        AuxLightning(model, dataclasses.replace(CONFIG, threads=threads), total_steps=1).on_fit_start()
        assert torch.get_num_threads() == expected
        assert algebra() == {expected}


def test_the_process_keeps_its_own_after_a_failure_too() -> None:
    torch.set_num_threads(1)
    before = algebra()
    with suppress(ZeroDivisionError), computing_in(3):
        seen = (torch.get_num_threads(), algebra())
        1 / 0  # noqa: B018
    assert seen == (3, {3})
    assert torch.get_num_threads() == 1
    assert algebra() == before
    with computing_in(None):
        assert torch.get_num_threads() == 1
        assert algebra() == before


def test_all_of_the_stage_computes_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The basis and the accuracy table as well, which whoever drives the run makes."""
    seen = []

    def note(work: object, config: AuxConfig) -> dict[str, polars.DataFrame]:
        seen.append((torch.get_num_threads(), algebra()))
        return {}

    monkeypatch.setattr(stage, "made", note)
    stage.make(None, AuxConfig(threads=2))
    assert seen == [(2, {2})]
