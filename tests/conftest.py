"""Small models and texts made on the spot, in the hub's own format: no network, no weights in the repository."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from s3server import Server, serving

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the processors
    torch.set_num_threads(1)

VOCABULARY = 320
WORDS = """alpha beta gamma delta def return self value index for in range if else not None True x y z""".split()  # noqa: SIM905


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def write_texts(folder: Path, count: int, words: int = 220, seed: int = 0) -> Path:
    """A folder of ``count`` documents of words drawn at random."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for index in range(count):
        lines = [sentence(rng, 11) for _ in range(words // 11)]
        (folder / f"text-{index:03d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def make_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(1)
    tokenizer.train_from_iterator((sentence(rng, 30) for _ in range(200)), trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)


def gpt_neox(**changes: Any) -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    }
    return GPTNeoXForCausalLM(GPTNeoXConfig(**(settings | changes)))


def gpt2(**changes: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(**(settings | {"initializer_range": 0.2} | changes)))


def llama(**changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    }
    return LlamaForCausalLM(LlamaConfig(**(settings | changes)))


MODELS: dict[str, Callable[..., Any]] = {"gpt_neox": gpt_neox, "gpt2": gpt2, "llama": llama}


def make_model(kind: str, seed: int = 0, **changes: Any) -> Any:
    """A small random model of one architecture, in evaluation mode."""
    torch.manual_seed(seed)
    return MODELS[kind](**changes).eval()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-NeoX model with its tokenizer, as `save_pretrained` leaves them."""
    folder = tmp_path_factory.mktemp("model")
    make_model("gpt_neox").save_pretrained(folder)
    make_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("text"), 40)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tests compare bytes and times; one thread is fastest at this size and leaves nothing to the scheduler."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def s3_url(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in a new bucket of a server that speaks S3, with the environment that leads there."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket()}/runs/one"
