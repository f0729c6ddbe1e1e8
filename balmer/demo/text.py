"""The demo's text as tokens: the standard library, a tokenizer learnt from it, and the part that is held out."""

import hashlib
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from scale.sources import Text, iterate

END = "<|endoftext|>"
VOCABULARY = 3072


@dataclass(frozen=True)
class Corpus:
    """The library as two streams of tokens; an end-of-text token stands before each document."""

    training: torch.Tensor
    held_out: torch.Tensor
    held_out_bytes: int
    files: int

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
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def load_corpus(tokenizer: PreTrainedTokenizerFast) -> Corpus:
    """Tokenises the library; documents are joined by the end-of-text token."""
    documents = list(iterate("python-stdlib"))
    learnt = [document for document in documents if not is_held_out(document.name)]
    held_out = [document for document in documents if is_held_out(document.name)]
    size = sum(len(document.text.encode()) for document in held_out)
    return Corpus(token_stream(tokenizer, learnt), token_stream(tokenizer, held_out), size, len(documents))


def end_token(tokenizer: PreTrainedTokenizerFast) -> int:
    token = tokenizer.backend_tokenizer.token_to_id(END)
    assert token is not None
    return int(token)


def token_stream(tokenizer: PreTrainedTokenizerFast, documents: list[Text]) -> torch.Tensor:
    """The documents' tokens one after the other, an end-of-text token before each."""
    end = end_token(tokenizer)
    encodings = tokenizer.backend_tokenizer.encode_batch([document.text for document in documents])
    return torch.tensor([token for encoding in encodings for token in [end, *encoding.ids]])
