import json
from pathlib import Path

import pytest

from cluster.report.chunks import ChunkWriter, literal, write_script
from scale.errors import UserError

HOSTILE = "</script><!-- ]]> & \u2028\u2029 \x00 \"'`${} \\ שלום 🎉 \ud800"


def body(path: Path) -> object:
    text = path.read_text("ascii")
    assert text.startswith("balmer.register(")
    assert text.endswith(");\n")
    return json.loads(text[text.index(",") + 1 : -3])


def test_a_literal_is_plain_ascii_without_markup_and_reads_back() -> None:
    text = literal({"text": HOSTILE})
    assert json.loads(text) == {"text": HOSTILE}
    assert text.isascii()
    assert text.isprintable()
    assert not set("<>&") & set(text)


def test_a_number_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        literal([float("nan")])


def test_records_are_packed_in_order_into_files_within_the_limit(tmp_path: Path) -> None:
    records = [{"key": key, "text": HOSTILE * (key % 7)} for key in range(40)]
    writer = ChunkWriter(tmp_path, "series", 2000)
    for record in records:
        writer.add(record["key"], record)
    first = writer.close()
    files = sorted((tmp_path / "data" / "series").iterdir())
    chunks = [body(path) for path in files]
    assert [record for chunk in chunks for record in chunk] == records
    assert [chunk[0]["key"] for chunk in chunks] == first
    assert max(path.stat().st_size for path in files) <= 2000
    assert len(files) < len(records) / 2


def test_a_record_larger_than_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="chunk_bytes is too small for series 3"):
        ChunkWriter(tmp_path, "series", 1000).add(3, "x" * 1000)
    with pytest.raises(UserError, match="chunk_bytes is too small for one"):
        write_script(tmp_path, "one", "x" * 1000, limit=1000)


def test_nothing_added_writes_nothing(tmp_path: Path) -> None:
    assert ChunkWriter(tmp_path, "series", 1000).close() == []
    assert not (tmp_path / "data").exists()
