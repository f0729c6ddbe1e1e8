"""Shards, manifests and publication."""

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars
import pytest
from safetensors import SafetensorError

from scale import store
from scale.errors import UserError
from scale.store import (
    MANIFEST,
    SHARDS,
    Manifest,
    Shards,
    describe_files,
    growing_array,
    publish,
    read_array,
    read_manifest,
    read_table,
    shard_path,
    unfinished_shard,
    write_array,
    write_json,
    write_manifest,
    write_shard,
    write_table,
    write_table_blocks,
    written,
)


def test_shards_come_back_in_order_and_joined(tmp_path: Path) -> None:
    whole = np.arange(24, dtype=np.float32).reshape(8, 3)
    for index, start in ((1, 5), (0, 0)):  # written out of order
        write_shard(tmp_path, f"{index:05d}", {"a": whole[start : 5 if index == 0 else 8]})
    shards = Shards(tmp_path)
    assert list(shards.names) == ["00000", "00001"]
    assert np.array_equal(shards.stack("a"), whole)
    assert isinstance(shards.read("00001", "a"), np.memmap)


def test_a_shard_cut_off_while_it_was_written_does_not_exist(tmp_path: Path) -> None:
    write_shard(tmp_path, "00000", {"a": np.zeros(2)})
    half = shard_path(tmp_path, "00001.tmp")
    half.mkdir()
    (half / "a.npy").write_bytes(b"half")
    assert list(Shards(tmp_path).names) == ["00000"]
    write_shard(tmp_path, "00001", {"a": np.ones(2)})
    assert np.array_equal(Shards(tmp_path).stack("a"), [0, 0, 1, 1])


class Overtaken(dict[str, np.ndarray]):
    """Arrays of an attempt during which another one begins and ends."""

    def __init__(self, folder: Path, own: float, other: float) -> None:
        super().__init__({name: np.full(3, own) for name in "ab"})
        self.folder, self.other = folder, other

    def items(self):
        for index, entry in enumerate(super().items()):
            if index == 1:
                write_shard(self.folder, "00000", {name: np.full(3, self.other) for name in "ab"})
            yield entry


def test_of_two_attempts_at_once_the_first_to_finish_stays_whole(tmp_path: Path) -> None:
    write_shard(tmp_path, "00000", Overtaken(tmp_path, 1.0, 2.0))
    shards = Shards(tmp_path)
    assert [shards.stack(name).tolist() for name in "ab"] == [[2.0] * 3] * 2
    assert [path.name for path in (tmp_path / SHARDS).iterdir()] == ["00000"]


def test_an_attempt_takes_over_what_an_earlier_one_left_and_that_one_comes_to_nothing(tmp_path: Path) -> None:
    earlier = unfinished_shard(tmp_path, "one")
    (earlier / "kept").write_text("draws", encoding="utf-8")
    later = unfinished_shard(tmp_path, "one")
    assert (later / "kept").read_text(encoding="utf-8") == "draws"
    assert not earlier.exists()
    with pytest.raises(FileNotFoundError):
        write_shard(tmp_path, "one", {"a": np.ones(2)}, begun=earlier)
    with pytest.raises(FileNotFoundError), written(earlier / "checkpoint", make_folder=False) as temporary:
        temporary.write_text("state", encoding="utf-8")
    assert not earlier.exists()
    assert not shard_path(tmp_path, "one").exists()
    write_shard(tmp_path, "one", {"a": np.zeros(2)}, begun=later)
    assert {path.name for path in shard_path(tmp_path, "one").iterdir()} == {"kept", "a.npy"}
    assert [path.name for path in (tmp_path / SHARDS).iterdir()] == ["one"]


@pytest.mark.parametrize("other", ["one.two", "one..two", "on"])
def test_an_attempt_takes_over_nothing_of_a_shard_with_a_like_name(tmp_path: Path, other: str) -> None:
    place = unfinished_shard(tmp_path, other)
    unfinished_shard(tmp_path, "one")
    assert place.exists()


def test_a_folder_without_shards_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no shards"):
        Shards(tmp_path)


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    table = polars.DataFrame({"a": np.arange(1000), "b": ["x"] * 1000})
    write_table(tmp_path / "one.parquet", table)
    write_table(tmp_path / "two.parquet", table.clone())
    write_table(tmp_path / "other.parquet", table.reverse())
    one, two, other = (tmp_path / f"{name}.parquet" for name in ("one", "two", "other"))
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != other.read_bytes()


def manifest_of(folder: Path, made_from: dict[str, str]) -> Manifest:
    return Manifest("chi", made_from, describe_files(folder), {"rows": 3})


def test_the_digest_names_content_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [1, 2])
    first, second = manifest_of(tmp_path, {"k": "1"}), manifest_of(tmp_path, {"k": "2"})
    assert first.digest == second.digest
    write_json(tmp_path / "a.json", [1, 3])
    assert manifest_of(tmp_path, {"k": "1"}).digest != first.digest


def test_a_manifest_comes_back_and_does_not_vouch_for_itself(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    manifest = manifest_of(tmp_path, {"sgld.draws": "2"})
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert describe_files(tmp_path) == manifest.files


def test_a_spoilt_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=str(tmp_path / MANIFEST)):
        read_manifest(tmp_path)


def test_publishing_replaces_the_whole_folder(tmp_path: Path) -> None:
    part, final = tmp_path / "chi.part", tmp_path / "chi"
    final.mkdir()
    (final / "stale").write_text("old", encoding="utf-8")
    part.mkdir()
    (part / "new").write_text("new", encoding="utf-8")
    publish(part, final)
    assert [p.name for p in final.iterdir()] == ["new"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chi"]


@pytest.mark.parametrize("cuts", [[], [1], [3, 3, 7]])
def test_an_array_that_grew_is_the_array_written_at_once(tmp_path: Path, cuts: list[int]) -> None:
    whole = np.arange(40, dtype=np.int32).reshape(10, 4)
    with growing_array(tmp_path / "grown.npy", (4,), np.int32) as array:
        for part in np.split(whole, cuts):
            array.append(part.astype(np.int64))
    write_array(tmp_path / "whole.npy", whole)
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert np.array_equal(read_array(tmp_path / "grown.npy"), whole)


def test_an_array_without_rows_is_one(tmp_path: Path) -> None:
    with growing_array(tmp_path / "grown.npy", (4,), np.int32):
        pass
    assert np.load(tmp_path / "grown.npy").shape == (0, 4)


def test_an_array_cut_off_while_it_grew_does_not_exist(tmp_path: Path) -> None:
    def killed() -> None:
        with growing_array(tmp_path / "grown.npy", (4,), np.int32) as array:
            array.append(np.zeros((2, 4)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert not (tmp_path / "grown.npy").exists()


def test_a_table_in_blocks_has_the_same_bytes_wherever_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of 100 rows, so that blocks are smaller, larger, and not a divisor."""
    monkeypatch.setattr(store, "ROW_GROUP", 100)
    numbers = np.random.default_rng(0).integers(0, 9, 1000)
    table = polars.DataFrame({"a": np.arange(1000), "b": [f"x{n}" for n in numbers]})
    contents = []
    for size in (7, 100, 260, 1000):
        path = tmp_path / f"{size}.parquet"

        def blocks(size: int = size) -> Iterator[polars.DataFrame]:
            return table.iter_slices(size)

        write_table_blocks(path, table.schema, blocks)
        assert read_table(path).equals(table)
        contents.append(path.read_bytes())
    assert len(set(contents)) == 1


def test_a_table_cut_off_between_two_blocks_does_not_exist(tmp_path: Path) -> None:
    table = polars.DataFrame({"a": np.arange(10)})

    def blocks() -> Iterator[polars.DataFrame]:
        yield table
        raise ValueError("no more")

    with pytest.raises(Exception, match="no more"):
        write_table_blocks(tmp_path / "t.parquet", table.schema, blocks)
    assert not (tmp_path / "t.parquet").exists()


def test_a_disk_that_is_full_under_safetensors_is_an_error_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(OSError, match="No space left") as caught, written(path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    with pytest.raises(SafetensorError, match="header"), written(path):
        raise SafetensorError("invalid header")
    assert not path.exists()
