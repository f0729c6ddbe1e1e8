"""Several processes, loading or training, do what one does."""

import dataclasses
import multiprocessing

import numpy as np
import pytest
import torch

from aux.batches import BatchOrder
from aux.config import AuxConfig
from aux.rows import epoch_order
from aux.training import train

#: 849 training rows in batches of 53: the last has one row, so that the second of two processes has none of it.
CONFIG = AuxConfig(
    expansion=4, epochs=3, batch_size=53, learning_rate=3e-3, validation_share=0.25, seed=3, accelerator="cpu"
)
SIZES = np.array([90] * 9 + [129] + [60] * 4)


def data():
    rng = np.random.default_rng(0)
    rows = SIZES.sum()
    X = (rng.normal(size=(rows, 12)) * 4 + 10).astype(np.float32)
    Y = np.abs((X - 10) / 4 @ np.random.default_rng(50).normal(size=(12, 4))) + 0.3 * rng.normal(size=(rows, 4))
    return X, Y.astype(np.float32), np.repeat(np.arange(len(SIZES)), SIZES)


def fit(shards, folder=None, **changes):
    inputs, targets, documents = shards
    return train(inputs, targets, documents, dataclasses.replace(CONFIG, **changes), residual_width=12, folder=folder)


def in_memory():
    X, Y, documents = data()
    return np.split(X, [100, 700]), np.split(Y, [300]), documents


def mapped(folder):
    shards = in_memory()
    for name, blocks in zip("xy", shards[:2], strict=True):
        for index, block in enumerate(blocks):
            np.save(folder / f"{name}{index}.npy", block)
    read = [
        [np.load(folder / f"{name}{i}.npy", mmap_mode="r") for i in range(len(blocks))]
        for name, blocks in zip("xy", shards[:2], strict=True)
    ]
    return (*read, shards[2])


def weights(trained):
    return np.concatenate([tensor.numpy().ravel() for tensor in trained.model.state_dict().values()])


@pytest.fixture(scope="module")
def alone():
    return fit(in_memory())


@pytest.mark.parametrize("world", [1, 2, 3])
def test_parts_make_up_the_batches_of_one_process(world):
    rows = np.arange(100, 154)
    orders = [BatchOrder(rows, 53, seed=7) for _ in range(world)]
    for rank, order in enumerate(orders):
        order.share(rank, world)
        order.set_epoch(2)
    expected = epoch_order(rows, seed=7, epoch=2)
    batches = list(zip(*orders, strict=True))
    assert len(batches) == len(orders[0]) == 2
    for parts, batch in zip(batches, (expected[:53], expected[53:]), strict=True):
        assert {part.whole for part in parts} == {len(batch)}
        assert sum(len(part.rows) for part in parts) == len(batch)
        assert set(np.concatenate([part.rows for part in parts])) == set(batch)


def test_loading_processes_change_no_byte(alone, tmp_path):
    found = fit(mapped(tmp_path), loader_workers=2)
    np.testing.assert_array_equal(weights(found), weights(alone))
    assert found.facts == alone.facts


def test_two_training_processes_agree_with_one_to_rounding(alone, tmp_path):
    (tmp_path / "state").mkdir()
    both = fit(mapped(tmp_path), tmp_path / "state", devices=2)
    assert both.facts["training_rows"] % CONFIG.batch_size == 1
    for mine, theirs in zip(both.facts["history"], alone.facts["history"], strict=True):
        assert mine == pytest.approx(theirs, abs=2e-5)
    np.testing.assert_allclose(weights(both), weights(alone), atol=2e-4)
    assert np.abs(weights(fit(in_memory(), epochs=2)) - weights(alone)).max() > 2e-3
    assert len((tmp_path / "state" / "log.csv").read_text().splitlines()) == 4
    assert multiprocessing.active_children() == []
    assert not torch.distributed.is_initialized()
