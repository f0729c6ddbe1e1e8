"""The yardstick's further models: learnt by the demo's recipe, saved as the hub saves them, and of the stated shape."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from balmer.demo import MODEL
from balmer.demo.recipe import Recipe
from balmer.demo.text import Corpus
from balmer.demo.train import Training, run
from benchmarks.estimators.measure import chosen_components, of_each_kind
from benchmarks.models import SHAPES, publish
from scale.config import ModelConfig
from scale.model.language_model import load_language_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Attention alone, two blocks of it, after two steps."""
    out = tmp_path_factory.mktemp("models") / "attention-only"
    recipe, shape = Recipe(2, batch=2, context=16, warmup=1), replace(SHAPES["attention-only"], layers=2)
    stream = torch.randint(3072, (400,), generator=torch.Generator().manual_seed(0))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODEL)
    training = Training(recipe, tokenizer, out.with_name("work"), shape=shape)
    run(training, Corpus(stream, stream, 1200, 1, 0, "3.11"), out, 1, 2, publish)
    return out


def test_what_is_saved_loads_and_has_learnt(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.config.num_hidden_layers == 2
    assert any(parameter.any() for name, parameter in model.named_parameters() if "attention.dense" in name)
    facts = json.loads((folder / "training.json").read_text())
    assert facts["step"] == 2
    assert 0 < facts["measured"]["held_out"] < 20
    assert len(PreTrainedTokenizerFast.from_pretrained(folder)) == model.config.vocab_size == 3072


def test_its_mlps_write_nothing_and_are_no_components(folder: Path) -> None:
    loaded = load_language_model(ModelConfig(path=str(folder), device="cpu"))
    assert not any(value.any() for name, value in loaded.parameters.items() if ".mlp." in name)
    assert {one.kind for one in chosen_components(loaded, ["all"])} == {"head", "embed", "unembed"}
    assert [one.name for one in chosen_components(loaded, [])] == ["embed", "l0h1", "l1h0", "unembed"]
    assert "l1 mlp" in of_each_kind(loaded)


def test_the_wide_model_is_wider_and_deeper_than_the_demo() -> None:
    config = json.loads((MODEL / "config.json").read_text())
    wide = SHAPES["wide"]
    assert (wide.layers, wide.width, wide.heads) == (8, 192, 6)
    assert wide.layers > config["num_hidden_layers"]
    assert wide.width > config["hidden_size"]
    assert not wide.silent_mlps
