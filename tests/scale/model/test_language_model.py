"""Model folders that cannot be used are said so in one line."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import make_model, make_tokenizer
from scale.config import ModelConfig
from scale.errors import UserError
from scale.model.language_model import load_language_model, load_tokenizer, model_identity


@pytest.fixture
def copied(tmp_path: Path, model_folder: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def refuse(folder: Path | str, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        load_all(ModelConfig(path=str(folder)))
    assert "\n" not in str(error.value)


def load_all(config: ModelConfig) -> None:
    load_tokenizer(config)
    load_language_model(config)


def test_a_good_folder_loads_in_evaluation_mode_without_gradients(model_folder: Path) -> None:
    language_model = load_language_model(ModelConfig(path=str(model_folder)))
    assert not language_model.model.training
    assert not any(p.requires_grad for p in language_model.model.parameters())
    assert language_model.architecture.layers == 3


def test_missing_weights(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    refuse(copied, "has no weights")


def test_some_weights_missing(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copied / "model.safetensors")
    del tensors["gpt_neox.layers.1.mlp.dense_4h_to_h.weight"]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    refuse(copied, "lacks weights, gpt_neox.layers.1.mlp.dense_4h_to_h.weight for one")


def test_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("x", encoding="utf-8")
    refuse(tmp_path, "has no config.json")
    refuse(tmp_path / "nowhere", "is not a folder")
    refuse("", "model.path is empty")


def test_not_a_causal_model(copied: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(copied)
    refuse(copied, "BertModel, which is not a causal language model")


def test_an_architecture_we_do_not_know(copied: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=8, num_hidden_layers=1)).save_pretrained(copied)
    refuse(copied, "architecture 'mamba' is not known to Balmer: ")


def test_a_tokenizer_that_does_not_match(tmp_path: Path) -> None:
    make_model("gpt_neox", vocab_size=300).save_pretrained(tmp_path)
    make_tokenizer(tmp_path)
    refuse(tmp_path, r"makes ids up to \d+, the model embeds 300")


def test_no_tokenizer(copied: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copied / name).unlink()
    refuse(copied, "has no tokenizer")


def test_a_spoilt_config(copied: Path) -> None:
    (copied / "config.json").write_text("{", encoding="utf-8")
    refuse(copied, "cannot read")


def test_identity_is_content(copied: Path, model_folder: Path) -> None:
    ours, theirs = (model_identity(ModelConfig(path=str(folder))) for folder in (copied, model_folder))
    assert ours == theirs
    assert "model.safetensors" in ours
    config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    (copied / "config.json").write_text(json.dumps(config | {"rotary_pct": 0.5}), encoding="utf-8")
    assert model_identity(ModelConfig(path=str(copied))) != theirs


def test_workers_that_load_at_once_leave_transformers_as_it_was(model_folder: Path) -> None:
    """Loads that overlapped left transformers with embeddings that are never tied, in every model made afterwards."""
    config = ModelConfig(path=str(model_folder), device="cpu")
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load_language_model.function(config), range(12)))
    assert len({id(language_model.model) for language_model in loaded}) == 12
    for tied in (True, False):
        model = make_model("gpt2", tie_word_embeddings=tied)
        assert (model.lm_head.weight is model.transformer.wte.weight) is tied
