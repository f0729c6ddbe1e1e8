"""Stage `corpus`: text becomes contexts of equal length, split by document into truth, heldout and upsample.

Writes ``tokens.npy`` (contexts x T), ``contexts.parquet``, ``documents.parquet`` and ``vocabulary.parquet``. A document
belongs to one split only, so that nothing measured on held-out documents was seen in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars

from scale.config import CorpusConfig, ModelConfig
from scale.engine import Workspace
from scale.errors import UserError
from scale.language_model import load_config, load_tokenizer
from scale.seeds import generator_for
from scale.sources import Text, iterate, source_identity
from scale.store import read_array, read_table, write_array, write_table

SPLITS = ("truth", "heldout", "upsample")
DOCUMENTS = {"document": polars.Int32, "name": polars.String, "split": polars.String, "contexts": polars.Int32}
CONTEXTS = {"context": polars.Int32, "document": polars.Int32, "split": polars.String, "start": polars.Int32}


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
    """The corpus so far."""

    tokens: list[np.ndarray] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    contexts: list[dict[str, Any]] = field(default_factory=list)
    short: list[str] = field(default_factory=list)

    def add(self, name: str, split: str, block: np.ndarray, starts: np.ndarray) -> None:
        document = len(self.documents)
        self.documents.append({"document": document, "name": name, "split": split, "contexts": len(block)})
        for start in starts.tolist():
            self.contexts.append({"context": len(self.contexts), "document": document, "split": split, "start": start})
        self.tokens.append(block)

    def count(self, split: str) -> int:
        return sum(d["contexts"] for d in self.documents if d["split"] == split)


def source_arguments(config: CorpusConfig) -> dict[str, Any]:
    """The corpus section as `scale.sources` names things."""
    return {
        "kind": config.kind,
        "path": config.path,
        "pattern": config.pattern or None,
        "column": config.column,
        "config": config.dataset_config or None,
        "split": config.dataset_split,
    }


def corpus_identity(config: CorpusConfig) -> dict[str, Any]:
    return source_identity(**source_arguments(config))


def collect(texts: Iterator[Text], tokenizer: Any, config: CorpusConfig) -> Collected:
    collected, splits = Collected(), Splits(config)
    for text in texts:
        tokens = tokenizer.encode(text.text, add_special_tokens=False, verbose=False)
        generator = generator_for(config.seed, "contexts", text.name)
        starts = choose_starts(len(tokens), config.context_length, config.contexts_per_document, generator)
        if len(starts) == 0:
            if config.short_documents == "error":
                raise UserError(
                    f"{text.name}: {len(tokens)} tokens do not fill one context of {config.context_length}; "
                    "set corpus.short_documents: drop, or a smaller corpus.context_length"
                )
            collected.short.append(text.name)
            continue
        split = splits.choose()
        taken = splits.take(split, starts)
        collected.add(text.name, split, cut(tokens, config.context_length, taken), taken)
        if splits.full:
            break
    return collected


def check_window(config: CorpusConfig, model: ModelConfig) -> None:
    window = getattr(load_config(model), "max_position_embeddings", None)
    if window is not None and config.context_length > window:
        raise UserError(
            f"corpus.context_length: {config.context_length} is longer than the model's window of {window} tokens"
        )


def check_splits(collected: Collected, config: CorpusConfig) -> None:
    if not collected.documents:
        reason = f"all {len(collected.short)} documents are too short" if collected.short else "it is empty"
        raise UserError(f"corpus.path: {config.path or config.kind} gives no context ({reason})")
    for split in SPLITS:
        if collected.count(split) == 0:
            raise UserError(
                f"corpus.{split}_contexts: {len(collected.documents)} documents are too few for three splits by "
                "document; add text or lower the other two"
            )


def vocabulary(tokenizer: Any, size: int) -> polars.DataFrame:
    """How every token reads; ids that the tokenizer does not know read as nothing."""
    texts = tokenizer.batch_decode([[token] for token in range(size)], clean_up_tokenization_spaces=False)
    return polars.DataFrame(
        {"token": np.arange(size, dtype=np.int32), "text": texts}, schema={"token": polars.Int32, "text": polars.String}
    )


def make(work: Workspace, model: ModelConfig, config: CorpusConfig) -> dict[str, Any]:
    check_window(config, model)
    tokenizer = load_tokenizer(model)
    collected = collect(iterate(**source_arguments(config), shuffle=config.seed), tokenizer, config)
    check_splits(collected, config)
    if collected.short:
        work.progress.say(f"  {len(collected.short)} documents shorter than one context left out")
    write_array(work.folder / "tokens.npy", np.concatenate(collected.tokens))
    write_table(work.folder / "documents.parquet", polars.DataFrame(collected.documents, schema=DOCUMENTS))
    write_table(work.folder / "contexts.parquet", polars.DataFrame(collected.contexts, schema=CONTEXTS))
    write_table(work.folder / "vocabulary.parquet", vocabulary(tokenizer, load_config(model).vocab_size))
    counts = {f"{split}_contexts": collected.count(split) for split in SPLITS}
    for split in SPLITS:
        asked = getattr(config, f"{split}_contexts")
        if counts[f"{split}_contexts"] < asked:
            work.progress.say(
                f"  {split}: the corpus gives {counts[f'{split}_contexts']} contexts of {asked} asked for"
            )
    return {
        "model": "/".join(Path(model.path).parts[-2:]),  # owner and name, on the hub or in a folder
        "corpus": Path(config.path).name or config.kind,
        "documents": len(collected.documents),
        "short_documents": len(collected.short),
        **counts,
    }


@dataclass(frozen=True)
class Rows:
    """Tokens as rows: a context of T tokens gives T - 1, one for each predicted token."""

    contexts: polars.DataFrame
    tokens: np.ndarray

    @property
    def per_context(self) -> int:
        return self.tokens.shape[1] - 1

    @property
    def count(self) -> int:
        return len(self.contexts) * self.per_context

    def ranges(self, step: int) -> list[tuple[int, int]]:
        """Runs of at most ``step`` contexts, none of which reaches across two splits."""
        ends = np.flatnonzero(np.diff(self.contexts["split"].rank("dense").to_numpy())) + 1
        bounds = [0, *ends.tolist(), len(self.contexts)]
        return [(a, min(a + step, stop)) for start, stop in pairwise(bounds) for a in range(start, stop, step)]

    def table(self) -> polars.DataFrame:
        """row, context, position, token, document, split: as the contexts, then by position."""
        count, width = len(self.contexts), self.per_context
        repeat = {name: np.repeat(self.contexts[name].to_numpy(), width) for name in ("context", "document", "split")}
        return polars.DataFrame(
            {
                "row": np.arange(count * width, dtype=np.int64),
                "context": repeat["context"],
                "position": np.tile(np.arange(1, width + 1, dtype=np.int32), count),
                "token": self.tokens[:, 1:].astype(np.int32).ravel(),
                "document": repeat["document"],
                "split": polars.Series(repeat["split"], dtype=polars.String),
            }
        )


def read_rows(corpus: Path, splits: tuple[str, ...]) -> Rows:
    """The contexts of some splits, one split after the other, each in the corpus's order."""
    table = read_table(corpus / "contexts.parquet")
    contexts = polars.concat([table.filter(polars.col("split") == split) for split in splits])
    return Rows(contexts, read_array(corpus / "tokens.npy")[contexts["context"].to_numpy()])


def split_tokens(corpus: Path, split: str, limit: int) -> np.ndarray:
    """The first ``limit`` contexts of a split; fewer if it has fewer."""
    contexts = read_table(corpus / "contexts.parquet").filter(polars.col("split") == split)["context"].to_numpy()
    return np.array(read_array(corpus / "tokens.npy")[contexts[:limit]])
