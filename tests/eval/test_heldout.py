from pathlib import Path

import numpy as np
import pytest
import torch

from eval.heldout import other_layers, sample_documents, stream_at
from scale.config import ModelConfig
from scale.model.forward import residual_stream
from scale.model.language_model import load_language_model


@pytest.mark.parametrize("batch_tokens", [0, 24])
def test_a_layer_comes_in_the_order_of_the_rows(model_folder: Path, batch_tokens: int) -> None:
    tokens = np.random.default_rng(0).integers(0, 300, size=(3, 12), dtype=np.int32)
    model = ModelConfig(path=str(model_folder), device="cpu", batch_tokens=batch_tokens)
    assert other_layers(model, tapped=[2]) == [1, 3]  # 3 is the top
    with torch.no_grad():
        expected = residual_stream(load_language_model(model), torch.from_numpy(tokens).long(), [1, 3])
    for layer, stream in zip([1, 3], expected, strict=True):
        found = stream_at(model, tokens, layer)
        np.testing.assert_allclose(found, stream[:, 1:].flatten(0, 1).numpy(), rtol=1e-4, atol=1e-5)


def test_whole_documents_are_drawn_until_there_are_enough() -> None:
    documents = np.repeat([3, 5, 8, 9], [10, 20, 30, 40])
    rows = sample_documents(documents, 35, seed=0)
    taken = np.unique(documents[rows])
    assert len(rows) == np.isin(documents, taken).sum() >= 35
    assert (np.diff(rows) > 0).all()
    assert len(sample_documents(documents, 1000, seed=0)) == 100
