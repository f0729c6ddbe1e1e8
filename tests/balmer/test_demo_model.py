"""The shipped demo model, loaded as a user loads it: its size, what it has learnt, and that its card says the truth."""

import math
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXForCausalLM, PreTrainedTokenizerFast

import balmer.demo
from balmer.demo.model_card import identifier_losses, induction, losses, repeated_sequences, unigram_loss
from balmer.demo.text import END, is_held_out, token_stream
from scale.corpus.sources import Text, iterate

FOLDER = Path(balmer.demo.__file__).parent / "model"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> GPTNeoXForCausalLM:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def untrained(model: GPTNeoXForCausalLM) -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(model.config).eval()


@pytest.fixture(scope="module")
def library() -> dict[str, Text]:
    return {text.name: text for text in iterate("python-stdlib")}


def from_card(row: str) -> float:
    found = re.search(rf"^\| {re.escape(row)}[^|]*\| ([\d.]+) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert found, row
    return float(found[1])


def test_the_folder_is_small_and_whole() -> None:
    names = {file.name for file in FOLDER.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"} <= names
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 8_000_000
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    assert kinds == {"F16"}


def test_the_model_is_of_the_stated_shape(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    assert 1_000_000 < sum(parameter.numel() for parameter in model.parameters()) < 3_000_000
    assert (model.config.num_hidden_layers, model.config.num_attention_heads) == (5, 4)
    assert len(tokenizer) == model.config.vocab_size == 3072
    assert model.gpt_neox.embed_in.weight.data_ptr() != model.get_output_embeddings().weight.data_ptr()
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in model.parameters())


def test_tokens_give_back_the_text(tokenizer: PreTrainedTokenizerFast, library: dict[str, Text]) -> None:
    for text in ["def f(x):\n\treturn  x  # ok\r\n", "naïve \U0001f600 Ελλάδα", " <|not special|> ", ""]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer(END)["input_ids"] == [tokenizer.eos_token_id]
    source = library["ast.py"].text
    tokens = tokenizer.backend_tokenizer.encode(source).ids
    assert tokenizer.decode(tokens) == source
    assert len(source) / len(tokens) > 3


def test_held_out_text_is_far_better_known_than_by_frequencies(
    model: GPTNeoXForCausalLM,
    untrained: GPTNeoXForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    library: dict[str, Text],
) -> None:
    stream = token_stream(tokenizer, [text for name, text in library.items() if is_held_out(name)])
    contexts = stream[: len(stream) // 256 * 256].view(-1, 256)[::8]
    flat = contexts[:, 1:].flatten()
    learnt, control = losses(model, contexts).mean(), losses(untrained, contexts).mean()
    # The frequencies are those of the judged tokens themselves: no unigram model does better.
    frequencies = unigram_loss(flat, flat, 3072)
    assert learnt < 0.6 * frequencies
    assert control > frequencies
    assert control == pytest.approx(math.log(3072), abs=0.5)


def test_it_copies_from_earlier_in_the_context(model: GPTNeoXForCausalLM, untrained: GPTNeoXForCausalLM) -> None:
    first, again = induction(model, model.config.eos_token_id)
    assert again < first - 3
    first, again = induction(untrained, model.config.eos_token_id)
    assert abs(again - first) < 0.2


def test_copying_needs_the_earlier_copy(model: GPTNeoXForCausalLM) -> None:
    """The second run is cheap because it repeats the first, not because it comes late."""
    contexts = repeated_sequences(3072, model.config.eos_token_id, count=16, seed=1)
    other = torch.cat(
        [repeated_sequences(3072, model.config.eos_token_id, count=16, seed=2)[:, :65], contexts[:, 65:]], 1
    )
    repeated, unrelated = (losses(model, block)[:, 65:].mean() for block in (contexts, other))
    assert repeated < unrelated - 3


def test_made_up_names_are_used_again(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    first, again = identifier_losses(model, tokenizer)
    assert again < 0.5 * first


def test_the_card_says_what_is_measured(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    first, again = induction(model, model.config.eos_token_id)
    assert from_card("64 random tokens, first time") == pytest.approx(first, abs=2e-3)
    assert from_card("the same 64 tokens, second time") == pytest.approx(again, abs=2e-3)
    assert from_card("a made-up identifier") == pytest.approx(identifier_losses(model, tokenizer)[0], abs=2e-3)
    exact = re.search(r"held-out loss of ([\d.]+)", (FOLDER / "README.md").read_text())
    assert exact
    assert float(exact[1].rstrip(".")) == pytest.approx(from_card("held-out loss, contexts"), abs=5e-4)


def test_the_card_is_of_a_finished_training() -> None:
    step, steps = re.search(r"Step ([\d,]+) of ([\d,]+),", (FOLDER / "README.md").read_text()).groups()  # type: ignore[union-attr]
    assert step == steps


def test_one_file_in_twenty_is_held_out(library: dict[str, Text]) -> None:
    assert 0.02 < sum(map(is_held_out, library)) / len(library) < 0.09
    assert [is_held_out(f"{index}.py") for index in range(60)].count(True) == 3
