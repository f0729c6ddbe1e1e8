from pathlib import Path

import numpy as np
import pytest
import torch

from eval.heldout import other_layers, sample_documents
from scale.config import ModelConfig
from scale.forward import residual_stream
from scale.language_model import load_language_model
from scale.store import write_array


@pytest.mark.parametrize("batch_tokens", [0, 24])
def test_every_layer_that_is_not_tapped_comes_in_the_order_of_the_rows(
    tmp_path: Path, model_folder: Path, batch_tokens: int
) -> None:
    tokens = np.random.default_rng(0).integers(0, 300, size=(7, 12), dtype=np.int32)
    write_array(tmp_path / "tokens.npy", tokens)
    model = ModelConfig(path=str(model_folder), device="cpu", batch_tokens=batch_tokens)
    contexts = np.array([1, 4, 6])
    found = list(other_layers(tmp_path, model, contexts, tapped=[2]))
    assert [(name, layer) for name, layer, _ in found] == [("activations", 1), ("activations", 3)]  # 3 is the top
    with torch.no_grad():
        below, top = residual_stream(load_language_model(model), torch.from_numpy(tokens[contexts]).long(), [1, 3])
    for (_, _, values), stream in zip(found, (below, top), strict=True):
        np.testing.assert_allclose(values, stream[:, 1:].flatten(0, 1).numpy(), rtol=1e-4, atol=1e-5)


def test_whole_documents_are_drawn_until_there_are_enough() -> None:
    documents = np.repeat([3, 5, 8, 9], [10, 20, 30, 40])
    rows = sample_documents(documents, 35, seed=0)
    taken = np.unique(documents[rows])
    assert len(rows) == np.isin(documents, taken).sum() >= 35
    assert (np.diff(rows) > 0).all()
    assert len(sample_documents(documents, 1000, seed=0)) == 100
