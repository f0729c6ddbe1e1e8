"""How a corpus comes together: documents sent to splits, and contexts cut from them.

Tokens go to disk as they come. What stays in memory is a few bytes per context and the documents' names.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars

from scale.config import CorpusConfig
from scale.corpus.documents import Document
from scale.seeds import generator_for
from scale.store import GrowingArray

SPLITS = ("truth", "heldout", "upsample")
DOCUMENTS = {"document": polars.Int32, "name": polars.String, "split": polars.String, "contexts": polars.Int32}
CONTEXTS = {"context": polars.Int32, "document": polars.Int32, "split": polars.String, "start": polars.Int32}
PARTS = {"document": polars.Int32, "part": polars.String, "start": polars.Int32}


def choose_starts(tokens: int, length: int, limit: int, generator: np.random.Generator) -> np.ndarray:
    """Where contexts of ``length`` tokens begin in a document: ``limit`` of its consecutive windows, chosen at random.

    The first ones would make a corpus of titles, licences and imports.
    """
    count = tokens // length
    return np.sort(generator.choice(count, size=min(count, limit), replace=False)) * length


def cut(tokens: list[int], length: int, starts: np.ndarray) -> np.ndarray:
    """The contexts at ``starts``, (contexts, length)."""
    ids = np.asarray(tokens, np.int32)
    return ids[starts[:, None] + np.arange(length)]


class Splits:
    """Sends documents to splits at random, in proportion to what each split still lacks, until all are full."""

    def __init__(self, config: CorpusConfig) -> None:
        self.left = {split: getattr(config, f"{split}_contexts") for split in SPLITS}
        self.generator = generator_for(config.seed, "splits")

    @property
    def full(self) -> bool:
        return not any(self.left.values())

    def choose(self) -> str:
        weights = np.array([self.left[split] for split in SPLITS], float)
        return str(self.generator.choice(SPLITS, p=weights / weights.sum()))

    def take(self, split: str, starts: np.ndarray) -> np.ndarray:
        """As many of a document's contexts as the split still has room for."""
        taken = starts[: self.left[split]]
        self.left[split] -= len(taken)
        return taken


@dataclass
class Collected:
    """The corpus so far: its tokens are on their way to disk, its tables are columns of a few bytes per context."""

    tokens: GrowingArray
    names: list[str] = field(default_factory=list)
    splits: array[int] = field(default_factory=lambda: array("b"))
    contexts: array[int] = field(default_factory=lambda: array("i"))
    starts: array[int] = field(default_factory=lambda: array("i"))
    parts: list[tuple[int, str, int]] = field(default_factory=list)

    def add(self, document: Document, split: str, block: np.ndarray, starts: np.ndarray) -> None:
        self.parts += [(len(self.names), *part) for part in document.parts]
        self.names.append(document.name)
        self.splits.append(SPLITS.index(split))
        self.contexts.append(len(block))
        self.starts.extend(starts.tolist())
        self.tokens.append(block)

    def count(self, split: str) -> int:
        return int(self.document_table().filter(polars.col("split") == split)["contexts"].sum())

    def document_table(self) -> polars.DataFrame:
        splits = polars.Series(SPLITS)[np.asarray(self.splits, np.int64)]
        columns = [np.arange(len(self.names)), self.names, splits, np.asarray(self.contexts)]
        return polars.DataFrame(dict(zip(DOCUMENTS, columns, strict=True)), schema=DOCUMENTS)

    def context_table(self) -> polars.DataFrame:
        documents = self.document_table()[np.repeat(np.arange(len(self.names)), self.contexts)]
        columns = [np.arange(len(self.starts)), documents["document"], documents["split"], np.asarray(self.starts)]
        return polars.DataFrame(dict(zip(CONTEXTS, columns, strict=True)), schema=CONTEXTS)

    def part_table(self) -> polars.DataFrame:
        return polars.DataFrame(self.parts, schema=PARTS, orient="row")


def collect(documents: Iterator[Document], config: CorpusConfig, collected: Collected) -> None:
    """Take documents until every split has its contexts."""
    splits = Splits(config)
    for document in documents:
        generator = generator_for(config.seed, "contexts", document.name)
        tokens = document.tokens
        starts = choose_starts(len(tokens), config.context_length, config.contexts_per_document, generator)
        split = splits.choose()
        taken = splits.take(split, starts)
        collected.add(document, split, cut(tokens, config.context_length, taken), taken)
        if splits.full:
            break
