"""Sources of text, on real files: what is read, in which order, under which name, and what is said of mistakes."""

import gzip
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from scale.corpus.sources import ROWS, Text, iterate, python_standard_library, source_identity
from scale.errors import UserError

# Line ends of every sort, quotes, an empty document, other scripts, a NUL: reading has to be exact.
TEXTS = ["plain\nlines\n", 'quotes " and \\ back', "dos\r\nline", "", "Ελλάδα \U0001f600 \u2028 end", "tab\t\x00nul"]


def write_folder(root: Path, texts: list[str]) -> Path:
    for index, text in enumerate(texts):
        file = root / f"part{index % 2}" / f"{index:03}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    return root


def json_lines(texts: list[str], field: str = "text") -> bytes:
    return "".join(json.dumps({"id": 1, field: text}) + "\n" for text in texts).encode()


def the_error(*arguments: object, **options: str) -> str:
    with pytest.raises(UserError) as caught:
        list(iterate(*arguments, **options))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_same_texts_come_out_of_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(json_lines(TEXTS))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json_lines(TEXTS)))
    pl.DataFrame({"text": TEXTS}).write_parquet(tmp_path / "c.parquet")
    folder = write_folder(tmp_path / "folder", TEXTS)
    for kind, path in [("jsonl", "a.jsonl"), ("jsonl", "b.jsonl.gz"), ("parquet", "c.parquet")]:
        assert list(iterate(kind, tmp_path / path)) == [
            Text(f"{path}:{number}", text) for number, text in enumerate(TEXTS, start=1)
        ]
    from_folder = list(iterate("text", folder))
    assert [text.name for text in from_folder] == sorted(text.name for text in from_folder)
    assert from_folder[0].name == "part0/000.txt"
    assert [text.text for text in sorted(from_folder, key=lambda text: text.name[6:])] == TEXTS


def test_a_single_file_is_one_document_and_loses_only_its_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "one.md"
    file.write_bytes(b"\xef\xbb\xbfa\r\n\xef\xbb\xbfb")
    assert list(iterate("text", str(file))) == [Text("one.md", "a\r\n\ufeffb")]


def test_a_pattern_chooses_the_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "c.txt", "deep/d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [text.name for text in iterate("text", tmp_path, pattern="*.py")] == ["a.py", "b.py"]
    assert [text.name for text in iterate("text", tmp_path, pattern="**/*.py")] == ["a.py", "b.py", "deep/d.py"]
    assert [text.name for text in iterate("text", tmp_path)] == ["c.txt"]


def test_a_folder_of_json_lines_keeps_line_numbers_over_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "2.jsonl").write_bytes(b'{"body": "x"}\n\n{"body": "y"}')
    (tmp_path / "1.jsonl.gz").write_bytes(gzip.compress(b'{"body": "w"}\n'))
    assert list(iterate("jsonl", tmp_path, column="body")) == [
        Text("1.jsonl.gz:1", "w"),
        Text("2.jsonl:1", "x"),
        Text("2.jsonl:3", "y"),
    ]


def test_parquet_is_whole_across_blocks(tmp_path: Path) -> None:
    texts = [f"row {index}" for index in range(2 * ROWS + 3)]
    pl.DataFrame({"id": range(len(texts)), "body": texts}).write_parquet(tmp_path / "t.parquet", row_group_size=1000)
    read = list(iterate("parquet", tmp_path / "t.parquet", column="body"))
    assert [text.text for text in read] == texts
    assert read[ROWS].name == f"t.parquet:{ROWS + 1}"


def test_documents_are_read_one_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "good"}\nbroken\n')
    texts = iterate("jsonl", tmp_path / "x.jsonl")
    assert next(texts).text == "good"
    with pytest.raises(UserError, match="malformed JSON"):
        next(texts)


def test_mistakes_of_place_name_the_key(tmp_path: Path) -> None:
    assert the_error("tape").startswith("corpus.kind must be one of python-stdlib, text,")
    assert the_error("text") == "corpus.path is needed when corpus.kind is text"
    assert the_error("text", tmp_path / "gone") == f"corpus.path {tmp_path / 'gone'} does not exist"
    assert the_error("text", tmp_path) == f"corpus.path {tmp_path} holds no file that matches the pattern '**/*.txt'"
    assert "'*.md'" in the_error("text", tmp_path, pattern="*.md")


def test_mistakes_of_content_name_the_file_and_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"text": "a"}\n{"text": \n')
    assert the_error("jsonl", bad).startswith(f"corpus.path: malformed JSON in {bad} line 2: ")
    bad.write_bytes(b'{"text": "a"}\n{"txt": "b"}\n')
    assert the_error("jsonl", bad) == f"corpus.column: no field 'text' in {bad} line 2"
    bad.write_bytes(b'["text"]\n')
    assert the_error("jsonl", bad) == f"corpus.column: no field 'text' in {bad} line 1"
    bad.write_bytes(b'{"text": 3}\n')
    assert the_error("jsonl", bad) == f"corpus.column: 'text' is not text in {bad} line 1 (it is int)"
    bad.write_bytes(b'{"text": "a"}\n{"text": "caf\xe9"}\n')
    assert the_error("jsonl", bad).startswith(f"corpus.path: {bad} line 2 is not utf-8")
    latin = tmp_path / "latin.txt"
    latin.write_bytes("olé".encode("latin-1"))
    assert the_error("text", latin).startswith(f"corpus.path: {latin} is not utf-8 (near character 2)")


def test_broken_packing_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(json_lines(TEXTS * 100))
    for data in (b"not gzip at all\n", whole[: len(whole) // 2]):
        (tmp_path / "x.jsonl.gz").write_bytes(data)
        assert "x.jsonl.gz is not a complete gzip file" in the_error("jsonl", tmp_path / "x.jsonl.gz")


def test_parquet_mistakes_are_named(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pl.DataFrame({"body": ["a", None], "n": [1, 2]}).write_parquet(file)
    assert the_error("parquet", file) == f"corpus.column: no column 'text' in {file}; it has body, n"
    assert the_error("parquet", file, column="n").endswith(f"is not text in {file} row 1 (it is int)")
    assert the_error("parquet", file, column="body").endswith(f"is not text in {file} row 2 (it is NoneType)")
    file.write_bytes(b"no such table")
    assert the_error("parquet", file).startswith(f"corpus.path: {file} is not a Parquet file")


@contextmanager
def without_the_superusers_rights() -> Iterator[None]:
    """The superuser may read everything; for the length of the block such a test runs as nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet"])
def test_what_may_not_be_read_is_named(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    file = folder / "file"
    file.write_text("x")
    file.chmod(0)
    message = {}
    with without_the_superusers_rights():
        message["file"] = the_error(kind, file)
    folder.chmod(0)
    with without_the_superusers_rights():
        message["folder"] = the_error(kind, folder)
    folder.chmod(0o700)
    assert message == {
        "file": f"corpus.path: no permission to read {file}",
        "folder": f"corpus.path: no permission to read {folder}",
    }


@pytest.mark.skipif(importlib.util.find_spec("datasets") is not None, reason="datasets is installed")
def test_the_missing_library_is_named() -> None:
    assert the_error("dataset", "owner/name").endswith("pip install datasets")
    assert source_identity("dataset", "owner/name", split="test")["split"] == "test"


def test_a_data_set_is_streamed(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "train.jsonl").write_bytes(json_lines(TEXTS, "body"))
    read = list(iterate("dataset", str(tmp_path), column="body"))
    assert read == [Text(f"{tmp_path}:{index}", text) for index, text in enumerate(TEXTS)]
    assert f"no column 'text' in data set {tmp_path}" in the_error("dataset", str(tmp_path))


def test_identity_follows_the_files_and_nothing_else(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", TEXTS)
    before = source_identity("text", folder)
    assert before["files"] == len(TEXTS)
    assert json.loads(json.dumps(before)) == before
    moved = folder.rename(tmp_path / "moved")
    (moved / "unrelated.log").write_text("not matched")
    assert source_identity("text", moved) == before
    file = moved / "part1" / "001.txt"
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    touched = source_identity("text", moved)
    file.rename(file.with_name("renamed.txt"))
    renamed = source_identity("text", moved)
    (moved / "new.txt").write_text("one more")
    added = source_identity("text", moved)
    assert len({identity["sha256"] for identity in (before, touched, renamed, added)}) == 4


def test_identity_knows_which_column_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(json_lines(TEXTS))
    assert source_identity("jsonl", tmp_path, column="a") != source_identity("jsonl", tmp_path, column="b")
    first, second = (source_identity("dataset", "o/n", config=config) for config in ("en", "de"))
    assert first != second


def test_the_standard_library_is_prose_and_code_only() -> None:
    files = python_standard_library()
    names = [text.name for text in iterate("python-stdlib")]
    assert names == sorted(names)
    assert len(names) == len(files) > 300
    assert {"ast.py", "json/decoder.py", "pydoc_data/topics.py", "asyncio/tasks.py"} <= set(names)
    forbidden = {"test", "tests", "idle_test", "site-packages", "__pycache__", "encodings", "lib2to3"}
    assert not [name for name in names if forbidden & set(name.split("/"))]
    # Generated tables, present in the library and left out: code points, HTML entities, the build's own paths.
    assert not {"stringprep.py", "html/entities.py"} & set(names)
    assert not [name for name in names if "_sysconfigdata" in name]


def test_the_standard_library_reads_as_the_files_stand() -> None:
    by_name = {text.name: text.text for text in iterate("python-stdlib")}
    for module in (json, hashlib):
        source = Path(module.__file__).read_bytes()
        assert source in {text.encode() for text in by_name.values()}


def test_importing_the_module_is_light() -> None:
    heavy = ("torch", "polars", "datasets")
    code = f"import sys, scale.corpus.sources; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[3]
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
