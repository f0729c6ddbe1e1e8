"""One synthetic data set throughout: 12 features, 4 noisy non-linear targets, 40 documents in uneven shards."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from aux.accuracy import PearsonAccumulator
from aux.config import AuxConfig
from aux.logs import write_log
from aux.rows import ShardedRows, epoch_order
from aux.training import Trained, train
from scale.answers import Answer
from scale.errors import UserError

CONFIG = AuxConfig(
    expansion=8,
    epochs=8,
    batch_size=64,
    learning_rate=3e-3,
    weight_decay=1.0,
    validation_share=0.2,
    patience=8,
    seed=3,
    accelerator="cpu",
    base="none",
)
ROWS = 3000


def data(seed=0):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(ROWS, 12)) * 4 + 10).astype(np.float32)
    mixing = np.random.default_rng(50).normal(size=(12, 4))
    signal_part = np.abs((X - 10) / 4 @ mixing)
    Y = (signal_part + 0.3 * rng.normal(size=signal_part.shape)).astype(np.float32) * [1, 10, 100, 0.01]
    return X, Y.astype(np.float32), np.arange(ROWS) // 75


def shards(values):
    return np.split(values, [100, 1700])


def fit(config=CONFIG, folder=None, *, values=None):
    X, Y, documents = values or data()
    return train(shards(X), shards(Y), documents, config, residual_width=12, folder=folder)


def weight_bytes(model):
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


def score(model, values):
    X, Y, _ = values
    with torch.no_grad():
        return PearsonAccumulator(4).update(model(torch.from_numpy(X)).numpy(), Y).result()


@pytest.fixture(scope="module")
def plain():
    return fit()


def test_learns_what_a_linear_model_cannot(plain):
    fresh = score(plain.model, data(seed=1))
    X, Y, _ = data()
    linear = np.linalg.lstsq(np.c_[X, np.ones(ROWS)], Y)[0]
    held_X, held_Y, _ = data(seed=1)
    straight = PearsonAccumulator(4).update(np.c_[held_X, np.ones(ROWS)] @ linear, held_Y).result()
    assert np.abs(straight.pearson).max() < 0.15
    assert fresh.pearson.min() > 0.85
    assert fresh.r2.min() > 0.5


def test_targets_shuffled_between_rows_teach_nothing():
    X, Y, documents = data()
    shuffled = Y[np.random.default_rng(0).permutation(ROWS)]
    assert np.abs(score(fit(values=(X, shuffled, documents)).model, data(seed=1)).pearson).max() < 0.3


def test_facts_describe_the_best_epoch(plain):
    facts = plain.facts
    scores = [epoch["validation_pearson"] for epoch in facts["history"]]
    assert facts["best_epoch"] == int(np.argmax(scores))
    assert facts["validation_documents"] == 8
    assert facts["training_rows"] + facts["validation_rows"] == ROWS
    assert facts["parameters"] == 12 * 96 + 96 + 96 * 4 + 4
    X, Y, _ = data()
    inside = plain.validation
    recomputed = score(plain.model, (X[inside], Y[inside], None)).pearson.mean()
    assert facts["validation_pearson"] == pytest.approx(recomputed, abs=1e-6)
    json.dumps(facts)


def test_same_seed_same_bytes_whatever_the_shards_and_another_seed_not(plain):
    X, Y, documents = data()
    torch.manual_seed(99)
    whole = train([X], [Y], documents, CONFIG, residual_width=12)
    assert weight_bytes(whole.model) == weight_bytes(plain.model)
    assert weight_bytes(fit(dataclasses.replace(CONFIG, seed=4)).model) != weight_bytes(plain.model)


def test_every_epoch_has_its_own_order_and_the_learning_rate_falls_to_zero(tmp_path, monkeypatch):
    seen = []
    take = ShardedRows.take

    def spied(self, rows):
        seen.append(rows)
        return take(self, rows)

    monkeypatch.setattr(ShardedRows, "take", spied)
    trained = fit(dataclasses.replace(CONFIG, epochs=2), tmp_path)
    requested = np.concatenate(seen[2::2])  # inputs and targets ask alike, after a statistics pass over each
    training, validation = np.flatnonzero(~trained.validation), np.flatnonzero(trained.validation)
    epochs = [np.concatenate([epoch_order(training, seed=3, epoch=epoch), validation]) for epoch in (0, 1)]
    np.testing.assert_array_equal(requested, np.concatenate(epochs))
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.0, abs=1e-9)
    assert state["optimizer_states"][0]["param_groups"][0]["initial_lr"] == CONFIG.learning_rate


def test_bfloat16_training_learns_too():
    half = fit(dataclasses.replace(CONFIG, precision="bf16-mixed"))
    assert score(half.model, data(seed=1)).pearson.min() > 0.8
    assert half.model.encoder.weight.dtype == torch.float32


def test_another_process_is_told_all_of_it(plain, tmp_path):
    plain.answer().save(tmp_path)
    found = Trained.of(Answer.load(tmp_path))
    assert weight_bytes(found.model) == weight_bytes(plain.model)
    assert found.model.shape == plain.model.shape
    assert not found.model.training
    np.testing.assert_array_equal(found.validation, plain.validation)
    assert found.facts == plain.facts


def test_l1_lowers_the_hidden_activations(plain):
    X = torch.from_numpy(data()[0])
    strong = fit(dataclasses.replace(CONFIG, l1=1.0)).model
    with torch.no_grad():
        assert strong.hidden(X).mean() < 0.7 * plain.model.hidden(X).mean()


def test_global_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    fit(dataclasses.replace(CONFIG, epochs=1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def test_stops_early_and_a_resumed_run_knows_that_it_had_stopped(tmp_path):
    X, Y, documents = data()
    values = (X, Y[np.random.default_rng(0).permutation(ROWS)], documents)
    config = dataclasses.replace(CONFIG, epochs=30, patience=2)
    stopped = fit(config, tmp_path, values=values)
    assert stopped.facts["epochs"] == stopped.facts["best_epoch"] + 3 < 30
    written = (tmp_path / "last.ckpt").stat().st_mtime_ns
    again = fit(config, tmp_path, values=values)
    assert again.facts == stopped.facts
    assert weight_bytes(again.model) == weight_bytes(stopped.model)
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == written


@pytest.mark.parametrize("finished", [1, 4, 7])
def test_interrupted_after_any_epoch_and_resumed_gives_the_same_bytes(plain, tmp_path, monkeypatch, finished):
    replace = os.replace
    saved = []

    def replace_then_interrupt(source, target):
        replace(source, target)
        saved.extend([target] if str(target).endswith("last.ckpt") else [])
        if len(saved) == finished:
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(folder=tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == finished - 1
    resumed = fit(folder=tmp_path)
    assert weight_bytes(resumed.model) == weight_bytes(plain.model)
    assert resumed.facts == plain.facts
    write_log(tmp_path / "plain.csv", plain.facts["history"])
    assert (tmp_path / "log.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from aux.rows import ShardedRows
from test_training import fit

calls, moment, name = 0, int(sys.argv[4]), sys.argv[3]
owner = {"take": ShardedRows, "replace": os}[name]
original = getattr(owner, name)

def counted(*arguments):
    global calls
    calls += 1
    if calls == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

setattr(owner, name, counted)
fit(folder=Path(sys.argv[2]))
"""


def test_killed_within_an_epoch_and_again_while_saving_gives_the_same_bytes(plain, tmp_path):
    here = os.path.dirname(__file__)
    root = os.path.dirname(os.path.dirname(here))
    # About a hundred batches are gathered per epoch. The second run renames its log once, then checkpoint and log after
    # every epoch: its sixth rename is that of the third checkpoint.
    for name, moment, finished in (("take", 250, 2), ("replace", 6, 4)):
        command = [sys.executable, "-c", KILLED_RUN, here, str(tmp_path), name, str(moment)]
        assert subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": root}).returncode == -signal.SIGKILL
        assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == finished - 1
    assert (tmp_path / "last.ckpt.part").exists()
    resumed = fit(folder=tmp_path)
    assert weight_bytes(resumed.model) == weight_bytes(plain.model)
    assert resumed.facts == plain.facts


def test_other_settings_or_data_are_refused_by_name(tmp_path):
    short = dataclasses.replace(CONFIG, epochs=1)
    fit(short, tmp_path)
    with pytest.raises(UserError, match=r"another aux\.l1"):
        fit(dataclasses.replace(short, l1=0.5), tmp_path)
    with pytest.raises(UserError, match=r"another aux\.data"):
        fit(short, tmp_path, values=data(seed=2))
    fit(dataclasses.replace(short, bootstrap=5), tmp_path)


def test_rows_that_do_not_match_or_are_not_finite_are_named():
    X, Y, documents = data()
    with pytest.raises(UserError, match="same rows, got 3000, 2999 and 3000"):
        train([X], [Y[1:]], documents, CONFIG, residual_width=12)
    broken = X.copy()
    broken[:, 5] = np.nan
    with pytest.raises(UserError, match="column 5 of the training data"):
        train([broken], [Y], documents, CONFIG, residual_width=12)
