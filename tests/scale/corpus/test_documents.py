"""Documents shorter than a context: stopped at, left out, or packed; and what stays in memory of a corpus."""

import json
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

from conftest import sentence
from scale.config import CorpusConfig, ModelConfig
from scale.corpus.collect import Collected, collect
from scale.corpus.documents import Document, short_documents, tokenized
from scale.corpus.sources import Text
from scale.corpus.stage import make, read_rows
from scale.engine import LocalEngine, Workspace
from scale.errors import UserError
from scale.progress import Silent
from scale.store import growing_array, read_array, read_table

CONFIG = CorpusConfig(
    path="text", context_length=8, short_documents="pack", truth_contexts=4, heldout_contexts=3, upsample_contexts=1000
)


class Letters:
    """A tokenizer of one token per character, with 0 for the end of a text."""

    eos_token_id: int | None = 0

    def encode(self, text: str, **options: Any) -> list[int]:
        return [ord(letter) for letter in text]


def documents(texts: dict[str, str], config: CorpusConfig = CONFIG) -> tuple[list[Document], int]:
    """What becomes of texts, and how many were left out."""
    tokenizer = Letters()
    short = short_documents(tokenizer, config)
    found = list(tokenized((Text(name, text) for name, text in texts.items()), tokenizer, config, short))
    return found, short.left_out


def read(document: Document) -> str:
    return "".join(chr(token) if token else "|" for token in document.tokens)


def test_short_documents_are_joined_until_they_fill_a_context() -> None:
    texts = {"a": "aaa", "b": "bb", "long": "x" * 11, "c": "cccc", "empty": "", "d": "d", "e": "eeeeeee", "f": "ff"}
    found, left_out = documents(texts)
    assert [(d.name, read(d), d.parts) for d in found] == [
        ("long", "x" * 11, ()),
        ("a + 2 more", "aaa|bb|c", (("a", 0), ("b", 4), ("c", 7))),
        ("d + 1 more", "d|eeeeee", (("d", 0), ("e", 2))),
    ]
    assert left_out == 2  # the empty one, and f, with which the text ends


def test_one_token_short_of_a_context_is_a_pack_of_its_own() -> None:
    found, left_out = documents({"a": "a" * 7})
    assert [(d.name, read(d), d.parts) for d in found] == [("a", "aaaaaaa|", (("a", 0),))]
    assert left_out == 0


def test_left_out_or_refused_unless_packed() -> None:
    texts = {"a": "aaa", "b": "bb", "long": "x" * 11, "c": "cccc"}
    found, left_out = documents(texts, replace(CONFIG, short_documents="drop"))
    assert [d.name for d in found] == ["long"]
    assert left_out == 3
    with pytest.raises(UserError, match=r"^a: 3 tokens do not fill .* set corpus.short_documents: drop \(or pack\)"):
        documents(texts, replace(CONFIG, short_documents="error"))


def test_packing_needs_an_end_of_text_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Letters, "eos_token_id", None)
    with pytest.raises(UserError, match=r"corpus\.short_documents: pack needs an end-of-text token"):
        documents({"a": "aaa"})
    assert documents({"a": "aaa"}, replace(CONFIG, short_documents="drop")) == ([], 1)


def write_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def build(folder: Path, model: Path, **settings: Any) -> Path:
    folder.mkdir(parents=True)
    sizes = {"truth_contexts": 400, "heldout_contexts": 300, "upsample_contexts": 900}  # more than there is
    config = replace(CONFIG, context_length=24, contexts_per_document=100, **sizes, **settings)
    make(Workspace(folder, {}, LocalEngine(), Silent()), ModelConfig(path=str(model)), config)
    return folder


@pytest.fixture
def texts() -> list[str]:
    rng = random.Random(5)
    return [sentence(rng, rng.choice([3, 5, 9, 30, 60])) for _ in range(150)]


def test_what_is_packed_is_in_one_split_and_every_token_has_its_source(
    tmp_path: Path, model_folder: Path, texts: list[str]
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    corpus = build(tmp_path / "c", model_folder, kind="jsonl", path=str(write_lines(tmp_path / "t.jsonl", texts)))
    parts, contexts = read_table(corpus / "parts.parquet"), read_table(corpus / "contexts.parquet")
    assert parts["part"].n_unique() == len(parts) > 30
    rows = read_rows(corpus, ("truth", "heldout", "upsample")).table()
    assert rows.group_by("document").agg(polars.col("split").n_unique())["split"].max() == 1
    tokens = read_array(corpus / "tokens.npy")
    places = {document: context for context, document in contexts.select("context", "document").iter_rows()}
    for document, part, start in parts.iter_rows():
        whole = [*tokenizer.encode(texts[int(part.split(":")[1]) - 1]), tokenizer.eos_token_id]
        assert len(whole) <= 24
        kept = tokens[places[document]][start : start + len(whole)].tolist()
        assert kept == whole[: len(kept)]
        assert len(kept) == len(whole) or start + len(kept) == 24
    packed = parts["document"].unique()
    assert contexts.filter(polars.col("document").is_in(packed.implode())).group_by("document").len()["len"].max() == 1
    names = read_table(corpus / "documents.parquet")["name"].to_list()
    assert len(names) == len(set(names))
    unpacked = build(tmp_path / "d", model_folder, kind="jsonl", path=str(tmp_path / "t.jsonl"), short_documents="drop")
    assert not (unpacked / "parts.parquet").exists()
    assert len(read_table(unpacked / "documents.parquet")) == len(names) - len(packed)


def test_every_source_gives_the_same_corpus(tmp_path: Path, model_folder: Path, texts: list[str]) -> None:
    """JSON lines, Parquet, and a data set that is streamed, byte for byte; text files, whose order is another."""
    folders = {kind: tmp_path / kind for kind in ("text", "jsonl", "parquet", "dataset")}
    for folder in folders.values():
        folder.mkdir()
    write_lines(folders["jsonl"] / "t.jsonl", texts)
    polars.DataFrame({"text": texts}).write_parquet(folders["parquet"] / "t.parquet")
    pytest.importorskip("datasets")
    polars.DataFrame({"text": texts}).write_parquet(folders["dataset"] / "t.parquet")
    for index, text in enumerate(texts):
        (folders["text"] / f"{index:03}.txt").write_text(text, encoding="utf-8")
    found = {}
    for kind, path in folders.items():
        made = build(tmp_path / "made" / kind, model_folder, kind=kind, path=str(path), short_documents="drop")
        found[kind] = read_array(made / "tokens.npy")
    assert len(found["jsonl"]) > 50
    assert np.array_equal(found["jsonl"], found["parquet"])
    assert np.array_equal(found["jsonl"], found["dataset"])
    assert not np.array_equal(found["jsonl"], found["text"])
    assert sorted(found["jsonl"].tolist()) == sorted(found["text"].tolist())


def endless(length: int) -> Iterator[Document]:
    number = 0
    while True:
        number += 1
        yield Document(f"document {number}", list(range(length)))


def held(folder: Path, contexts: int) -> int:
    """Most bytes that Python and numpy held while a corpus of so many contexts of 256 tokens was collected."""
    config = replace(CONFIG, context_length=256, contexts_per_document=50, upsample_contexts=contexts)
    tracemalloc.start()
    with growing_array(folder / f"{contexts}.npy", (256,), np.int32) as tokens:
        collect(endless(50 * 256), config, Collected(tokens))
        found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.load(folder / f"{contexts}.npy", mmap_mode="r")) == contexts + 7
    return found


def test_tokens_do_not_stay_in_memory(tmp_path: Path) -> None:
    held(tmp_path, 100)  # what is made once
    few, many = held(tmp_path, 500), held(tmp_path, 5000)
    assert many - few < 16 * 4500  # a context has 1,024 bytes of tokens
