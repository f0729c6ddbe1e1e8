import json
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch

from aux import stage
from aux.config import Architecture
from aux.model import AuxModel, AuxShape
from aux.ridge import fit_ridge
from aux.rows import ShardedRows

SHAPES = {name: AuxShape(6, 6 if name == "linear" else 11, 3, name) for name in get_args(Architecture)}


def random_model(seed=0, architecture="one-layer"):
    model = AuxModel(SHAPES[architecture], seed=seed)
    rng = np.random.default_rng(0)
    for buffer in model.buffers():
        buffer.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, size=buffer.shape)))
    return model


def encoded(x, state, architecture):
    """Hidden activations from the weights by name."""

    def affine(name, values):
        return values @ state[f"encoder.{name}weight"].T + state[f"encoder.{name}bias"]

    match architecture:
        case "linear":
            return x
        case "one-layer":
            return np.maximum(affine("", x), 0)
        case "two-layer":
            return np.maximum(affine("1.", np.maximum(affine("0.", x), 0)), 0)
        case "gated":
            return np.maximum(affine("gate.", x), 0) * affine("value.", x)


@pytest.mark.parametrize("architecture", SHAPES)
def test_forward_is_the_equation(architecture):
    model = random_model(architecture=architecture)
    for parameter in model.parameters():
        parameter.data += 0.1  # biases start at zero, where a missing one would not be seen
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    hidden = encoded((x - state["input_mean"]) / state["input_scale"], state, architecture)
    np.testing.assert_allclose(model.hidden(torch.from_numpy(x)).detach().numpy(), hidden, rtol=1e-4, atol=1e-5)
    assert hidden.shape == (5, model.shape.hidden)
    expected = (hidden @ state["decoder.weight"].T + state["decoder.bias"]) * state["target_scale"]
    found = model(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, expected + state["target_mean"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", SHAPES)
def test_a_fresh_model_neither_blows_up_nor_silences_what_passes_through(architecture):
    shape = AuxShape(64, 64 if architecture == "linear" else 512, 200, architecture)
    x = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert 0.8 < AuxModel(shape)(x).std() < 1.25


def test_initial_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = random_model(3)
    torch.manual_seed(2)
    second, third = random_model(3), random_model(4)
    assert torch.equal(first.encoder.weight, second.encoder.weight)
    assert not torch.equal(first.encoder.weight, third.encoder.weight)


def test_a_folder_without_an_architecture_holds_one_layer(tmp_path):
    model = random_model()
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["architecture"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(AuxModel.load(tmp_path)(x), model(x))


@pytest.mark.parametrize("architecture", SHAPES)
def test_save_and_load(architecture, tmp_path):
    model = random_model(architecture=architecture)
    model.save(tmp_path)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(AuxModel.load(tmp_path)(x), model(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_loads_without_lightning(tmp_path):
    random_model().save(tmp_path)
    code = (
        "import sys; from pathlib import Path; from aux.model import AuxModel;"
        f"AuxModel.load(Path({str(tmp_path)!r})); assert 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_starts_as_the_ridge_regression_it_is_given():
    rng = np.random.default_rng(0)
    X, Y = (rng.normal(size=(400, 6)) * 3 + 5).astype(np.float32), rng.normal(size=(400, 3)).astype(np.float32)
    Y += X[:, :3] * [1, 10, 0.1]
    held = np.arange(400) < 80
    ridge = fit_ridge(ShardedRows([X]), ShardedRows([Y]), held)
    model = AuxModel(AuxShape(6, 12, 3, base="ridge"), seed=1)
    for name, values in (("input", X), ("target", Y)):
        getattr(model, f"{name}_mean").copy_(torch.from_numpy(values.mean(axis=0)))
        getattr(model, f"{name}_scale").copy_(torch.from_numpy(values.std(axis=0)))
    nothing = model(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(nothing, np.broadcast_to(Y.mean(axis=0), Y.shape), rtol=1e-4)
    model.start_from(ridge)
    np.testing.assert_allclose(model(torch.from_numpy(X)).detach().numpy(), ridge.predict(X), rtol=1e-3, atol=1e-3)


def test_the_base_is_kept_and_not_trained(tmp_path):
    model = AuxModel(AuxShape(6, 12, 3, base="ridge"))
    model.base.copy_(torch.arange(18.0).view(3, 6))
    model.save(tmp_path)
    assert torch.equal(AuxModel.load(tmp_path).base, model.base)
    assert "base" not in dict(model.named_parameters())
    assert AuxModel(AuxShape(6, 12, 3)).base is None


def test_judging_holds_some_rows_at_a_time(monkeypatch):
    model, blocks = random_model(), [np.random.default_rng(i).normal(size=(rows, 6)) for i, rows in enumerate((25, 3))]
    blocks = [block.astype(np.float32) for block in blocks]
    whole, seen = stage.predict(model, blocks), []
    monkeypatch.setattr(stage, "JUDGED", 7 * 11 + 3)
    handle = model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    np.testing.assert_allclose(stage.predict(model, blocks), whole, rtol=1e-5, atol=1e-6)
    handle.remove()
    assert seen == [7, 7, 7, 4, 3]
    monkeypatch.setattr(stage, "JUDGED", 1)  # a row is the least
    assert stage.predict(model, blocks[1:]).shape == (3, 3)
