"""Text into contexts, split by document."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars
import pytest

from conftest import VOCABULARY, write_texts
from scale.config import CorpusConfig, ModelConfig
from scale.corpus.collect import choose_starts, cut
from scale.corpus.stage import make, read_rows, split_tokens
from scale.engine import LocalEngine, Workspace
from scale.errors import UserError
from scale.progress import Silent
from scale.store import read_array, read_table


def settings(text: Path) -> CorpusConfig:
    return CorpusConfig(
        kind="text", path=str(text), context_length=24, contexts_per_document=3,
        truth_contexts=20, heldout_contexts=10, upsample_contexts=30,
    )  # fmt: skip


def build(folder: Path, model: Path, config: CorpusConfig) -> Path:
    folder.mkdir(exist_ok=True)
    make(Workspace(folder, {}, LocalEngine(), Silent()), ModelConfig(path=str(model)), config)
    return folder


def test_a_document_is_in_one_split_and_every_split_is_as_large_as_asked(
    tmp_path: Path, model_folder: Path, text_folder: Path
) -> None:
    corpus = build(tmp_path / "corpus", model_folder, settings(text_folder))
    contexts = read_table(corpus / "contexts.parquet")
    counts = dict(contexts.group_by("split").len().iter_rows())
    assert counts == {"truth": 20, "heldout": 10, "upsample": 30}
    assert contexts.group_by("document").agg(polars.col("split").n_unique())["split"].max() == 1
    assert contexts.group_by("document").len()["len"].max() <= 3


def test_contexts_are_the_text(tmp_path: Path, model_folder: Path, text_folder: Path) -> None:
    """A context decodes to the part of its file that begins `start` tokens in."""
    from transformers import AutoTokenizer

    corpus = build(tmp_path / "corpus", model_folder, settings(text_folder))
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    contexts, tokens = read_table(corpus / "contexts.parquet"), read_array(corpus / "tokens.npy")
    for document, name in read_table(corpus / "documents.parquet").select("document", "name").iter_rows():
        own = contexts.filter(polars.col("document") == document)
        whole = tokenizer.encode((text_folder / name).read_text(encoding="utf-8"))
        for context, start in own.select("context", "start").iter_rows():
            assert tokens[context].tolist() == whole[start : start + 24]
    vocabulary = read_table(corpus / "vocabulary.parquet")
    assert len(vocabulary) == VOCABULARY
    assert vocabulary["text"][int(tokens[0, 0])] == tokenizer.decode([int(tokens[0, 0])])


def test_rows_name_the_predicted_token(tmp_path: Path, model_folder: Path, text_folder: Path) -> None:
    corpus = build(tmp_path / "corpus", model_folder, settings(text_folder))
    rows = read_rows(corpus, ("heldout", "upsample"))
    table, tokens = rows.table(), read_array(corpus / "tokens.npy")
    assert len(table) == 40 * 23
    assert table["split"].to_list() == ["heldout"] * 230 + ["upsample"] * 690
    assert table["row"].to_list() == list(range(len(table)))
    expected = tokens[table["context"].to_numpy(), table["position"].to_numpy()]
    assert np.array_equal(table["token"].to_numpy(), expected)
    assert table["position"].min() == 1


def test_ranges_cover_everything_and_do_not_cross_splits(tmp_path: Path, model_folder: Path, text_folder: Path) -> None:
    rows = read_rows(build(tmp_path / "corpus", model_folder, settings(text_folder)), ("heldout", "upsample"))
    assert rows.ranges(8) == [(0, 8), (8, 10), (10, 18), (18, 26), (26, 34), (34, 40)]


def test_one_seed_one_corpus(tmp_path: Path, model_folder: Path, text_folder: Path) -> None:
    config = settings(text_folder)
    one = build(tmp_path / "one", model_folder, config)
    two = build(tmp_path / "two", model_folder, config)
    other = build(tmp_path / "other", model_folder, replace(config, seed=1))
    for name in ("tokens.npy", "contexts.parquet", "documents.parquet"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert (one / "tokens.npy").read_bytes() != (other / "tokens.npy").read_bytes()
    assert len(split_tokens(one, "truth", 5)) == 5


def test_contexts_do_not_overlap_and_fill_whole_windows() -> None:
    generator = np.random.default_rng(0)
    assert choose_starts(11, 4, 9, generator).tolist() == [0, 4]
    assert choose_starts(3, 4, 9, generator).tolist() == []
    assert cut(list(range(11)), 4, np.array([0, 4])).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert cut([1, 2], 4, np.array([], int)).shape == (0, 4)


def test_contexts_come_from_all_over_a_document() -> None:
    """Every window equally often: 2 of 10, 2,000 times."""
    generator = np.random.default_rng(0)
    counts = np.bincount(np.concatenate([choose_starts(100, 10, 2, generator) // 10 for _ in range(2000)]))
    assert len(counts) == 10
    assert abs(counts - 400).max() < 4 * np.sqrt(2000 * 0.2 * 0.8)


def test_a_short_document_stops_or_is_dropped(tmp_path: Path, model_folder: Path) -> None:
    text = write_texts(tmp_path / "text", 12)
    (text / "aa.txt").write_text("x", encoding="utf-8")
    config = replace(settings(text), truth_contexts=6, heldout_contexts=6, upsample_contexts=60)
    with pytest.raises(UserError, match=r"aa.txt: \d tokens? do.*corpus.short_documents: drop"):
        build(tmp_path / "a", model_folder, config)
    corpus = build(tmp_path / "b", model_folder, replace(config, short_documents="drop"))
    assert "aa.txt" not in read_table(corpus / "documents.parquet")["name"].to_list()


@pytest.mark.parametrize("content", ["", "x"])
def test_a_corpus_without_a_context_is_refused(tmp_path: Path, model_folder: Path, content: str) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"corpus.path: .* gives no context"):
        build(tmp_path / "c", model_folder, replace(settings(tmp_path / "text"), short_documents="drop"))


def test_too_few_documents_for_three_splits(tmp_path: Path, model_folder: Path) -> None:
    text = write_texts(tmp_path / "text", 2)
    with pytest.raises(UserError, match=r"corpus.\w+_contexts: 2 documents are too few for three splits"):
        build(tmp_path / "c", model_folder, settings(text))


def test_contexts_longer_than_the_window(tmp_path: Path, model_folder: Path, text_folder: Path) -> None:
    with pytest.raises(UserError, match=r"corpus.context_length: 65 is longer than the model's window of 64"):
        build(tmp_path / "c", model_folder, replace(settings(text_folder), context_length=65))
