"""The demo's text as tokens: the standard library, a tokenizer learnt from it, and the part that is held out."""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from scale.corpus.sources import Text, iterate, python_library_tests
from scale.errors import UserError

END = "<|endoftext|>"
VOCABULARY = 3072
#: Where `prepare` leaves the tokens, beside the tokenizer.
PREPARED = "text.safetensors"


@dataclass(frozen=True)
class Corpus:
    """The library as two streams of tokens; an end-of-text token stands before each document.

    Args:
        training: What is learnt.
        held_out: What is not.
        held_out_bytes: Size of the held-out text.
        files: Files of the library, learnt or held out.
        test_files: Files of its tests, all of them learnt.
        python: The version that the library is of.
    """

    training: torch.Tensor
    held_out: torch.Tensor
    held_out_bytes: int
    files: int
    test_files: int
    python: str

    def held_out_contexts(self, length: int) -> torch.Tensor:
        count = len(self.held_out) // length
        return self.held_out[: count * length].view(count, length)


def is_held_out(name: str) -> bool:
    """One file in twenty, by its name alone, so that the split is the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 20 == 0


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt from the files that are not held out."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    documents = (document.text for document in iterate("python-stdlib") if not is_held_out(document.name))
    tokenizer.train_from_iterator(documents, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    assert tokenizer.token_to_id(END) == 0
    return _ready(tokenizer)


def _ready(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def load_corpus(tokenizer: PreTrainedTokenizerFast, *, tests: bool) -> Corpus:
    """Tokenises the running interpreter's library, and its tests if they are to be learnt."""
    documents = list(iterate("python-stdlib"))
    learnt = [document for document in documents if not is_held_out(document.name)]
    held_out = [document for document in documents if is_held_out(document.name)]
    more = library_tests() if tests else []
    size = sum(len(document.text.encode()) for document in held_out)
    streams = token_stream(tokenizer, learnt + more), token_stream(tokenizer, held_out)
    return Corpus(*streams, size, len(documents), len(more), platform.python_version())


def library_tests() -> list[Text]:
    return [text for file in python_library_tests() for text in iterate("text", file)]


def prepare(folder: Path) -> None:
    """Writes the tokenizer and the tokens into a folder, from which the same text is learnt on any machine.

    The tests are the end of the training stream, so that they can be left off.
    """
    if folder.exists():
        raise UserError(f"--prepare {folder} exists: remove it or choose another")
    part = folder.with_name(folder.name + ".part")
    tokenizer = train_tokenizer()
    corpus = load_corpus(tokenizer, tests=True)
    tests = len(token_stream(tokenizer, library_tests()))
    tokenizer.save_pretrained(part)
    facts = ("held_out_bytes", "files", "test_files", "python")
    save_file(
        {name: getattr(corpus, name).to(torch.uint16) for name in ("training", "held_out")},
        part / PREPARED,
        {name: str(getattr(corpus, name)) for name in facts} | {"test_tokens": str(tests)},
    )
    part.rename(folder)


def prepared(folder: Path, *, tests: bool) -> tuple[PreTrainedTokenizerFast, Corpus]:
    """What `prepare` wrote, with or without the tests."""
    if not (folder / PREPARED).exists():
        raise UserError(f"--data {folder} holds no {PREPARED}: make it with --prepare {folder}")
    with safe_open(folder / PREPARED, "pt") as file:
        training, held_out = (file.get_tensor(name).long() for name in ("training", "held_out"))
        facts = file.metadata()
    if not tests:
        training = training[: len(training) - int(facts["test_tokens"])]
    corpus = Corpus(
        training,
        held_out,
        int(facts["held_out_bytes"]),
        int(facts["files"]),
        int(facts["test_files"]) if tests else 0,
        facts["python"],
    )
    return _ready(Tokenizer.from_file(str(folder / "tokenizer.json"))), corpus


def end_token(tokenizer: PreTrainedTokenizerFast) -> int:
    token = tokenizer.backend_tokenizer.token_to_id(END)
    assert token is not None
    return int(token)


def token_stream(tokenizer: PreTrainedTokenizerFast, documents: list[Text]) -> torch.Tensor:
    """The documents' tokens one after the other, an end-of-text token before each."""
    end = end_token(tokenizer)
    encodings = tokenizer.backend_tokenizer.encode_batch([document.text for document in documents])
    return torch.tensor([token for encoding in encodings for token in [end, *encoding.ids]])
