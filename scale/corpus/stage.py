"""Stage `corpus`: text becomes contexts of equal length, split by document into truth, heldout and upsample.

Writes ``tokens.npy`` (contexts x T), ``contexts.parquet``, ``documents.parquet`` and ``vocabulary.parquet``. A document
belongs to one split only, so that nothing measured on held-out documents was seen in training. Where short documents
are packed, ``parts.parquet`` says which they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars

from scale.config import CorpusConfig, ModelConfig
from scale.corpus.collect import SPLITS, Collected, collect
from scale.corpus.documents import Short, short_documents, tokenized
from scale.corpus.sources import iterate, source_identity
from scale.engine import Workspace
from scale.errors import UserError
from scale.model.language_model import load_config, load_tokenizer
from scale.store import growing_array, read_array, read_table, write_table, write_table_blocks

TOKENS = "tokens.npy"
ROWS = {
    "row": polars.Int64, "context": polars.Int32, "position": polars.Int32, "token": polars.Int32,
    "document": polars.Int32, "split": polars.String,
}  # fmt: skip
#: Whose rows are in memory at a time while their table is written.
CONTEXTS_AT_ONCE = 512


def source_arguments(config: CorpusConfig) -> dict[str, Any]:
    """The corpus section as `scale.corpus.sources` names things."""
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


def check_window(config: CorpusConfig, model: ModelConfig, weights: bool = True) -> None:
    window = getattr(load_config(model, weights), "max_position_embeddings", None)
    if window is not None and config.context_length > window:
        raise UserError(
            f"corpus.context_length: {config.context_length} is longer than the model's window of {window} tokens"
        )


def check_splits(collected: Collected, short: Short, config: CorpusConfig) -> None:
    if not collected.names:
        reason = f"all {short.left_out} documents are too short" if short.left_out else "it is empty"
        raise UserError(f"corpus.path: {config.path or config.kind} gives no context ({reason})")
    for split in SPLITS:
        if collected.count(split) == 0:
            raise UserError(
                f"corpus.{split}_contexts: {len(collected.names)} documents are too few for three splits by "
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
    short = short_documents(tokenizer, config)
    texts = iterate(**source_arguments(config), shuffle=config.seed)
    with growing_array(work.folder / TOKENS, (config.context_length,), np.int32) as tokens:
        collected = Collected(tokens)
        collect(tokenized(texts, tokenizer, config, short), config, collected)
    check_splits(collected, short, config)
    if short.left_out:
        work.progress.say(f"  {short.left_out} documents shorter than one context left out")
    write_table(work.folder / "documents.parquet", collected.document_table())
    write_table(work.folder / "contexts.parquet", collected.context_table())
    if config.short_documents == "pack":
        write_table(work.folder / "parts.parquet", collected.part_table())
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
        "documents": len(collected.names),
        "short_documents": short.left_out,
        **counts,
    }


@dataclass(frozen=True)
class Rows:
    """Tokens as rows: a context of T tokens gives T - 1, one for each predicted token.

    Holds the chosen contexts; their tokens stay on disk, and are mapped no longer than it takes to read some, for what
    was touched of a mapping counts as memory until it is let go.
    """

    contexts: polars.DataFrame
    corpus: Path

    @property
    def per_context(self) -> int:
        return int(read_array(self.corpus / TOKENS).shape[1]) - 1

    @property
    def count(self) -> int:
        return len(self.contexts) * self.per_context

    def take(self, which: slice | np.ndarray) -> np.ndarray:
        """The tokens of some of the chosen contexts."""
        return context_tokens(self.corpus, self.contexts["context"].to_numpy()[which])

    def ranges(self, step: int) -> list[tuple[int, int]]:
        """Runs of at most ``step`` contexts, none of which reaches across two splits."""
        ends = np.flatnonzero(np.diff(self.contexts["split"].rank("dense").to_numpy())) + 1
        bounds = [0, *ends.tolist(), len(self.contexts)]
        return [(a, min(a + step, stop)) for start, stop in pairwise(bounds) for a in range(start, stop, step)]

    def table(self, start: int = 0, stop: int | None = None) -> polars.DataFrame:
        """row, context, position, token, document, split of some contexts: as the contexts, then by position."""
        contexts, width = self.contexts[start:stop], self.per_context
        count = len(contexts)
        repeated = contexts[np.repeat(np.arange(count), width)]
        return polars.DataFrame(
            {
                "row": np.arange(start * width, (start + count) * width, dtype=np.int64),
                "context": repeated["context"],
                "position": np.tile(np.arange(1, width + 1, dtype=np.int32), count),
                "token": self.take(slice(start, stop))[:, 1:].ravel(),
                "document": repeated["document"],
                "split": repeated["split"],
            },
            schema=ROWS,
        )

    def write_table(self, path: Path) -> None:
        """The table of all rows, which is never held whole."""
        ranges = self.ranges(CONTEXTS_AT_ONCE)
        write_table_blocks(path, ROWS, lambda: (self.table(start, stop) for start, stop in ranges))


def read_rows(corpus: Path, splits: tuple[str, ...]) -> Rows:
    """The contexts of some splits, one split after the other, each in the corpus's order."""
    table = read_table(corpus / "contexts.parquet")
    contexts = polars.concat([table.filter(polars.col("split") == split) for split in splits])
    return Rows(contexts, corpus)


def context_tokens(corpus: Path, contexts: np.ndarray) -> np.ndarray:
    """The contexts of these numbers, (contexts, T), and nothing else of the corpus."""
    return np.array(read_array(corpus / TOKENS)[contexts])


def split_tokens(corpus: Path, split: str, limit: int) -> np.ndarray:
    """The first ``limit`` contexts of a split; fewer if it has fewer."""
    contexts = read_table(corpus / "contexts.parquet").filter(polars.col("split") == split)["context"].to_numpy()
    return context_tokens(corpus, contexts[:limit])
