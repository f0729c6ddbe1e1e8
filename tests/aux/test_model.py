import subprocess
import sys

import numpy as np
import torch

from aux.model import AuxModel, AuxShape


def random_model(seed=0):
    model = AuxModel(AuxShape(6, 11, 3), seed=seed)
    rng = np.random.default_rng(0)
    for buffer in model.buffers():
        buffer.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, size=buffer.shape)))
    return model


def test_forward_is_the_equation():
    model = random_model()
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    hidden = (x - state["input_mean"]) / state["input_scale"] @ state["encoder.weight"].T + state["encoder.bias"]
    output = np.maximum(hidden, 0) @ state["decoder.weight"].T + state["decoder.bias"]
    expected = output * state["target_scale"] + state["target_mean"]
    np.testing.assert_allclose(model(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_initial_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = random_model(3)
    torch.manual_seed(2)
    second, third = random_model(3), random_model(4)
    assert torch.equal(first.encoder.weight, second.encoder.weight)
    assert not torch.equal(first.encoder.weight, third.encoder.weight)


def test_save_and_load_without_lightning_or_pickle(tmp_path):
    model = random_model()
    model.save(tmp_path)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(AuxModel.load(tmp_path)(x), model(x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    code = (
        "import sys; from pathlib import Path; from aux.model import AuxModel;"
        f"AuxModel.load(Path({str(tmp_path)!r})); assert 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
