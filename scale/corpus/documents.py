"""Documents as tokens: each fills at least one context, or is dealt with as short documents are to be dealt with.

A context may not be padded, so a document shorter than one is left out, or packed: joined to the next short ones, with
the end-of-text token after each, until together they fill one context. The pack is then a document like any other. What
is drawn, split and resampled by document is so by pack, and nothing of a packed document is anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from scale.config import CorpusConfig
from scale.corpus.sources import Text
from scale.errors import UserError


@dataclass(frozen=True)
class Document:
    """Tokens that belong together; of a pack, also the name of each part and where it begins."""

    name: str
    tokens: list[int]
    parts: tuple[tuple[str, int], ...] = ()


@dataclass
class Short:
    """What becomes of documents shorter than one context."""

    config: CorpusConfig
    end: int | None
    left_out: int = 0
    tokens: list[int] = field(default_factory=list)
    parts: list[tuple[str, int]] = field(default_factory=list)

    def take(self, name: str, tokens: list[int]) -> Document | None:
        """A pack, if this document completes one."""
        if self.config.short_documents == "error":
            raise UserError(
                f"{name}: {len(tokens)} tokens do not fill one context of {self.config.context_length}; "
                "set corpus.short_documents: drop (or pack), or a smaller corpus.context_length"
            )
        if self.config.short_documents == "drop" or not tokens:
            self.left_out += 1
            return None
        assert self.end is not None
        self.parts.append((name, len(self.tokens)))
        self.tokens += [*tokens, self.end]
        return self.emptied() if len(self.tokens) >= self.config.context_length else None

    def emptied(self) -> Document:
        """Cut to one context, so that what is left of its last part goes nowhere else."""
        first, others = self.parts[0][0], len(self.parts) - 1
        name = f"{first} + {others} more" if others else first
        pack = Document(name, self.tokens[: self.config.context_length], tuple(self.parts))
        self.tokens, self.parts = [], []
        return pack

    def close(self) -> None:
        """A pack that was never filled is left out."""
        self.left_out += len(self.parts)


def short_documents(tokenizer: Any, config: CorpusConfig) -> Short:
    end = tokenizer.eos_token_id
    if config.short_documents == "pack" and end is None:
        raise UserError(
            "corpus.short_documents: pack needs an end-of-text token, and this tokenizer names none; set it to drop"
        )
    return Short(config, end)


def tokenized(texts: Iterable[Text], tokenizer: Any, config: CorpusConfig, short: Short) -> Iterator[Document]:
    """Documents of at least one context each; ``short`` keeps count of the others."""
    for text in texts:
        tokens = tokenizer.encode(text.text, add_special_tokens=False, verbose=False)
        whole = len(tokens) >= config.context_length
        found = Document(text.name, tokens) if whole else short.take(text.name, tokens)
        if found:
            yield found
    short.close()
