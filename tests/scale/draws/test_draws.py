"""A chain that is killed goes on from its last checkpoint, to the same bytes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scale.config import ModelConfig, SGLDConfig
from scale.draws.chains import MinibatchGradient
from scale.draws.stage import CHECKPOINT, chain_file, sample
from scale.store import write_array

SETTINGS = SGLDConfig(
    step_size=1e-4, chains=2, burn_in=3, draws=5, steps_between_draws=2, batch_contexts=2, pool_contexts=6,
    reference_contexts=3, checkpoint_every=4,
)  # fmt: skip
CHAINS = (("l1h0", 0), ("l1h0", 1), ("l1h1", 0))


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The little of a corpus stage that sampling reads."""
    import polars

    folder = tmp_path / "corpus"
    folder.mkdir()
    write_array(folder / "tokens.npy", np.random.default_rng(0).integers(0, 300, (6, 12)).astype(np.int32))
    rows = {"context": list(range(6)), "document": list(range(6)), "split": ["truth"] * 6, "start": [0] * 6}
    polars.DataFrame(rows).write_parquet(folder / "contexts.parquet")
    return folder


def steps_until_killed(monkeypatch: pytest.MonkeyPatch, limit: int | None) -> list[int]:
    """Counts gradient evaluations; the one after ``limit`` never comes back."""
    calls: list[int] = []
    plain = MinibatchGradient.__call__

    def counted(self: MinibatchGradient, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if limit is not None and len(calls) == limit:
            raise Killed
        calls.append(1)
        return plain(self, offsets)

    monkeypatch.setattr(MinibatchGradient, "__call__", counted)
    return calls


@pytest.mark.parametrize(("killed_at", "left"), [(2, 13), (4, 9), (7, 9), (12, 1)])
def test_a_killed_chain_goes_on(
    tmp_path: Path, corpus: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int, left: int
) -> None:
    model = ModelConfig(path=str(model_folder), device="cpu")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    expected = sample(whole, corpus, model, SETTINGS, CHAINS)
    with monkeypatch.context() as patch:
        steps_until_killed(patch, killed_at)
        with pytest.raises(Killed):
            sample(broken, corpus, model, SETTINGS, CHAINS)
    assert (broken / CHECKPOINT).exists() == (killed_at >= SETTINGS.checkpoint_every)
    with monkeypatch.context() as patch:
        calls = steps_until_killed(patch, None)
        found = sample(broken, corpus, model, SETTINGS, CHAINS)
    assert len(calls) == left  # only what came after the last checkpoint is done again
    assert not (broken / CHECKPOINT).exists()
    for key, value in expected.items():
        assert np.array_equal(found[key], value), key
    for component, chain in CHAINS:
        name = chain_file(component, chain)
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert len({(whole / chain_file(*chain)).read_bytes() for chain in CHAINS}) == 3


def test_a_long_union_has_a_name_that_a_file_can_have() -> None:
    names = [" + ".join(f"l{layer}h{head}" for layer in range(24) for head in range(last)) for last in (15, 16)]
    files = [chain_file(name, 3) for name in names]
    assert len(set(files)) == 2
    assert all(len(name.encode()) < 200 for name in files)
