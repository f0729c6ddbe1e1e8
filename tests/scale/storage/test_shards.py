"""Shards and stages on a real server: whole or not there, whoever writes, reads or ends in between."""

import pickle
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scale.engine import Item, LocalEngine, do, is_done
from scale.errors import UserError
from scale.progress import Progress, Silent
from scale.storage import part as part_module
from scale.storage import snapshots
from scale.storage.mirror import Mirror, Pointer, encoded
from scale.storage.mirrored import MirroredEngine
from scale.storage.objects import Objects
from scale.storage.part import Part, part_of
from scale.store import Manifest, Shards, describe_files, shard_path, write_array, write_manifest

FIELDS = {"probe.seed": 0}


class EndedError(Exception):
    """Stands for the end of a process: nothing after it happens."""


def square(value: int, log: Path) -> Mapping[str, np.ndarray]:
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{value}\n")
    return {"square": np.array([value**2]), "root": np.array([value])}


def begun(url: str, root: Path, replaced: Pointer | None = None) -> Part:
    part = part_of(Mirror(url, root), "chi", FIELDS, replaced)
    part.begin(FIELDS)
    return part


def items(log: Path, count: int = 5) -> list[Item]:
    return [Item(f"{value:05d}", square, {"value": value, "log": log}) for value in range(count)]


def done(log: Path) -> list[int]:
    return [int(word) for word in log.read_text(encoding="utf-8").split()] if log.exists() else []


def run(part: Part, work: Sequence[Item]) -> list[int]:
    MirroredEngine(LocalEngine(), part).run(work, part.folder, "squares", Silent())
    squares: list[int] = Shards(part.folder).stack("square").tolist()
    return squares


def publish(part: Part, replaced: Pointer | None = None, facts: dict[str, Any] | None = None) -> Pointer:
    manifest = Manifest(part.stage, FIELDS, describe_files(part.folder), facts or {})
    return part.mirror.publish_stage(part.stage, part.folder, manifest, replaced)


def failing(monkeypatch: pytest.MonkeyPatch, wanted: Callable[[str], bool]) -> None:
    """End at the first object to be put whose key is like that."""
    put, swap = Objects.put, Objects.swap

    def put_or_end(self: Objects, key: str, content: Any) -> None:
        if wanted(key):
            raise EndedError
        put(self, key, content)

    def swap_or_end(self: Objects, key: str, content: bytes, tag: str | None) -> str | None:
        if wanted(key):
            raise EndedError
        return swap(self, key, content, tag)

    monkeypatch.setattr(Objects, "put", put_or_end)
    monkeypatch.setattr(Objects, "swap", swap_or_end)


def test_another_machine_goes_on_with_what_is_finished(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    first = begun(s3_url, tmp_path / "first")
    with monkeypatch.context() as patch:
        failing(patch, lambda key: key.endswith("shards/00003.json"))
        with pytest.raises(EndedError):
            run(first, items(log))
    assert done(log) == [0, 1, 2, 3]  # the files of 3 are there, and nothing names them
    assert len([key for key in Objects(s3_url).list("chi/files/") if "/00003/" in key]) == 2
    second = begun(s3_url, tmp_path / "second")
    assert list(Shards(second.folder).names) == ["00000", "00001", "00002"]
    assert run(second, items(log)) == [0, 1, 4, 9, 16]
    assert done(log) == [0, 1, 2, 3, 3, 4]


def test_the_machine_that_was_stopped_sends_what_it_had_finished(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    part = begun(s3_url, tmp_path / "only")
    with monkeypatch.context() as patch:
        failing(patch, lambda key: "/00002/" in key)
        with pytest.raises(EndedError):
            run(part, items(log))
    part = begun(s3_url, tmp_path / "only")
    assert run(part, items(log)) == [0, 1, 4, 9, 16]
    assert done(log) == [0, 1, 2, 3, 4]  # 2 was finished here, though not yet there
    assert [path.name for path in part.finished()] == [f"{value:05d}" for value in range(5)]


class Elsewhere(LocalEngine):
    """Every item on one of two other machines, sent there as it would be, with folders of their own."""

    def __init__(self, roots: Sequence[Path]) -> None:
        super().__init__()
        self.roots = roots

    def run(self, work: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        def machine(index: int) -> None:
            for item in work[index :: len(self.roots)]:
                sent = pickle.loads(pickle.dumps(item))
                part = replace(sent.part, mirror=replace(sent.part.mirror, root=self.roots[index]))
                inner = self.roots[index] / folder.relative_to(sent.part.mirror.root)
                arguments = {
                    name: self.roots[index] / value.relative_to(sent.part.mirror.root)
                    if isinstance(value, Path) and value.is_relative_to(sent.part.mirror.root)
                    else value
                    for name, value in sent.arguments.items()
                }
                do(replace(sent, part=part, arguments=arguments), inner)

        threads = [threading.Thread(target=machine, args=(index,)) for index in range(len(self.roots))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def scaled(corpus: Path, folder: Path, value: int) -> Mapping[str, np.ndarray]:
    """Reads an earlier stage, and a file beside its own shards."""
    return {"scaled": np.load(corpus / "tokens.npy") * np.load(folder / "factor.npy") * value}


def test_items_on_other_machines_find_their_inputs_and_all_shards_come_back(s3_url: str, tmp_path: Path) -> None:
    mirror = Mirror(s3_url, tmp_path / "driver")
    corpus = part_of(mirror, "corpus", {}, None)
    corpus.begin({})
    write_array(corpus.folder / "tokens.npy", np.arange(4))
    publish(corpus)
    inputs = mirror.fetch_stage("corpus")
    part = begun(s3_url, tmp_path / "driver")
    write_array(part.folder / "factor.npy", np.array(10))
    work = [
        Item(f"{v:05d}", scaled, {"corpus": inputs, "folder": part.folder, "value": v}, reads=("factor.npy",))
        for v in range(6)
    ]
    engine = MirroredEngine(Elsewhere([tmp_path / "one", tmp_path / "two"]), part)
    engine.run(work, part.folder, "scaled", Silent())
    assert Shards(part.folder).stack("scaled").tolist() == [10 * v * t for v in range(6) for t in range(4)]
    for index, name in enumerate(("one", "two")):
        there = tmp_path / name / part.folder.relative_to(tmp_path / "driver")
        assert sorted(p.name for p in (there / "shards").iterdir()) == [f"{v:05d}" for v in range(index, 6, 2)]
        assert (tmp_path / name / "corpus" / "tokens.npy").is_file()


def test_a_question_is_answered_where_the_stages_are(s3_url: str, tmp_path: Path) -> None:
    corpus = part_of(Mirror(s3_url, tmp_path / "first"), "corpus", {}, None)
    corpus.begin({})
    write_array(corpus.folder / "tokens.npy", np.arange(4))
    publish(corpus)
    part = begun(s3_url, tmp_path / "second")
    engine = MirroredEngine(LocalEngine(), part)
    assert engine.ask(total, tmp_path / "second" / "corpus", factor=2) == 12


def total(corpus: Path, factor: int) -> int:
    return int(np.load(corpus / "tokens.npy").sum()) * factor


def test_a_shard_that_another_machine_has_finished_counts_as_done(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "LISTED_SECONDS", 1e-3)
    here, there = begun(s3_url, tmp_path / "here"), begun(s3_url, tmp_path / "there")
    item = replace(items(tmp_path / "log")[0], part=here)
    assert not is_done(item, here.folder)
    do(replace(item, part=there), there.folder)
    time.sleep(0.01)
    assert is_done(item, here.folder)
    assert not shard_path(here.folder, item.shard).exists()


def test_of_a_damaged_shard_nothing_is_kept(s3_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run(begun(s3_url, tmp_path / "first"), items(log, 3))
    objects = Objects(s3_url)
    key = next(key for key in objects.list("chi/files/") if "/00001/square" in key)
    size = objects.list("chi/files/")[key]
    objects.put(key, b"x" * size)
    second = begun(s3_url, tmp_path / "second")
    assert list(Shards(second.folder).names) == ["00000", "00002"]
    assert run(second, items(log, 3)) == [0, 1, 4]
    assert done(log) == [0, 1, 2, 1]
    assert not list((tmp_path / "second" / "incoming").iterdir())


def test_a_part_that_is_made_from_other_things_is_forgotten_everywhere(s3_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = begun(s3_url, tmp_path / "one")
    run(first, items(log, 2))
    other = part_of(first.mirror, "chi", {"probe.seed": 1}, None)
    other.begin({"probe.seed": 1})
    assert not first.folder.exists()
    assert not other.finished()
    assert not [key for key in Objects(s3_url).list() if key.startswith(first.prefix)]
    assert list(first.folder.parent.iterdir()) == [other.folder]


def test_made_again_over_itself_is_another_part(s3_url: str, tmp_path: Path) -> None:
    """Otherwise what is left of the first would count as finished work of the second."""
    part = begun(s3_url, tmp_path / "one")
    run(part, items(tmp_path / "log", 2))
    again = begun(s3_url, tmp_path / "one", publish(part))
    assert again.name != part.name
    assert not again.finished()


def stage(part: Part, value: int, files: int = 12) -> dict[str, Any]:
    """Files that all say one number, and the fact that they do."""
    for index in range(files):
        write_array(part.folder / f"{index:02d}.npy", np.full(500, value))
    return {"value": value}


def test_a_stage_comes_as_it_was_published_and_is_fetched_once(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = begun(s3_url, tmp_path / "here")
    pointer = publish(part, None, stage(part, 1) | {"none": float("nan")})
    assert pointer.generation == 1
    fetched: list[str] = []
    fetch = Objects.fetch

    def counted(self: Objects, key: str, path: Path) -> str | None:
        fetched.append(key)
        return fetch(self, key, path)

    monkeypatch.setattr(Objects, "fetch", counted)
    there = Mirror(s3_url, tmp_path / "there")
    gate = threading.Barrier(4)

    def reader() -> None:
        gate.wait()
        there.fetch_stage("chi")

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 12
    write_manifest(part.folder, pointer.manifest)
    assert describe_files(there.root / "chi") == describe_files(part.folder)
    assert (there.root / "chi" / "manifest.json").read_bytes() == (part.folder / "manifest.json").read_bytes()


def test_only_what_the_store_does_not_have_is_sent(s3_url: str, tmp_path: Path) -> None:
    part = begun(s3_url, tmp_path / "one")
    run(part, items(tmp_path / "log", 3))
    sent = part.mirror.objects.traffic.sent
    pointer = publish(part)
    size = len(pointer.manifest.files) and sum(about["bytes"] for about in pointer.manifest.files.values())
    assert part.mirror.objects.traffic.sent - sent < size + 3000  # the pointer alone
    assert set(Objects(s3_url).list("chi/files/")) == {
        f"chi/files/{name}.{about['sha256'][:32]}" for name, about in pointer.manifest.files.items()
    }
    assert not Objects(s3_url).list("chi.part/")


def test_a_writer_that_ends_before_the_pointer_has_published_nothing(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(s3_url, tmp_path / "one")
    part = begun(s3_url, tmp_path / "one")
    first = publish(part, None, stage(part, 1))
    again = begun(s3_url, tmp_path / "one", first)
    facts = stage(again, 2)
    with monkeypatch.context() as patch:
        failing(patch, lambda key: key == "chi.json")
        with pytest.raises(EndedError):
            publish(again, first, facts)
    now = mirror.pointer("chi")
    assert now == first
    fetched = Mirror(s3_url, tmp_path / "reader").fetch_stage("chi")
    assert {int(np.load(path)[0]) for path in fetched.glob("*.npy")} == {1}
    publish(again, first, facts)
    assert len(Objects(s3_url).list("chi/files/")) == 12


def test_a_writer_that_ends_before_it_has_swept_leaves_a_sign(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(s3_url, tmp_path / "one")
    part = begun(s3_url, tmp_path / "one")
    first = publish(part, None, stage(part, 1))
    again = begun(s3_url, tmp_path / "one", first)
    assert not mirror.unswept("chi", first)
    facts = stage(again, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "sweep", lambda self, stage, pointer: failed())
        with pytest.raises(EndedError):
            publish(again, first, facts)
    now = mirror.pointer("chi")
    assert now is not None
    assert now.manifest.facts == {"value": 2}
    assert mirror.unswept("chi", now)
    mirror.sweep("chi", now)
    assert not mirror.unswept("chi", now)
    assert len(Objects(s3_url).list("chi/files/")) == 12


def failed() -> None:
    raise EndedError


def test_who_was_overtaken_does_not_publish(s3_url: str, tmp_path: Path) -> None:
    """Two that both hold themselves for the only one: what the first has published stays, and can be read."""
    slow, quick = begun(s3_url, tmp_path / "slow"), begun(s3_url, tmp_path / "quick")
    pointer = publish(quick, None, stage(quick, 2))
    with pytest.raises(UserError, match="another balmer has published"):
        publish(slow, None, stage(slow, 1))
    assert quick.mirror.pointer("chi") == pointer
    fetched = Mirror(s3_url, tmp_path / "reader").fetch_stage("chi")
    assert {int(np.load(path)[0]) for path in fetched.glob("*.npy")} == {2}


def test_a_reader_never_sees_two_stages_in_one(s3_url: str, tmp_path: Path) -> None:
    part = begun(s3_url, tmp_path / "writer")
    pointer = publish(part, None, stage(part, 0))
    seen, ended = [], threading.Event()

    def read(root: Path) -> None:
        while not ended.is_set():
            shutil.rmtree(root, ignore_errors=True)
            folder = Mirror(s3_url, root).fetch_stage("chi")
            seen.append({int(np.load(path)[0]) for path in folder.glob("*.npy")})

    readers = [threading.Thread(target=read, args=(tmp_path / f"reader-{number}",)) for number in range(2)]
    for reader in readers:
        reader.start()
    for value in range(1, 9):
        part = begun(s3_url, tmp_path / "writer", pointer)
        pointer = publish(part, pointer, stage(part, value))
    ended.set()
    for reader in readers:
        reader.join()
    assert all(len(values) == 1 for values in seen)
    assert len(set.union(*seen)) > 1  # it was replaced between fetches


def test_a_stage_that_stays_damaged_is_refused(s3_url: str, tmp_path: Path) -> None:
    part = begun(s3_url, tmp_path / "one")
    publish(part, None, stage(part, 1))
    key, size = next(iter(Objects(s3_url).list("chi/files/").items()))
    Objects(s3_url).put(key, b"x" * size)
    with pytest.raises(UserError, match="is not what its manifest says; balmer run --from chi"):
        Mirror(s3_url, tmp_path / "two").fetch_stage("chi")
    assert not (tmp_path / "two" / "chi").exists()
    with pytest.raises(UserError, match="no finished stage taps"):
        Mirror(s3_url, tmp_path / "two").fetch_stage("taps")


def test_a_fetch_that_was_stopped_goes_on_and_leaves_nothing_over(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = begun(s3_url, tmp_path / "one")
    publish(part, None, stage(part, 1))
    there, fetch, fetched = Mirror(s3_url, tmp_path / "two"), Objects.fetch, list[str]()

    def ending(self: Objects, key: str, path: Path) -> str | None:
        fetched.append(key)
        if len(fetched) == 5:
            path.write_bytes(b"half")
            raise EndedError
        return fetch(self, key, path)

    monkeypatch.setattr(Objects, "fetch", ending)
    with pytest.raises(EndedError):
        there.fetch_stage("chi")
    assert not (tmp_path / "two" / "chi").exists()
    kept = len(fetched) - 1
    (tmp_path / "two" / "chi.fetch" / "left.npy").write_bytes(b"of another")
    there.fetch_stage("chi")
    assert len(fetched) == kept + 1 + (12 - kept)
    assert describe_files(tmp_path / "two" / "chi") == describe_files(part.folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "shards/../../outside"])
def test_a_manifest_cannot_name_files_of_others(s3_url: str, tmp_path: Path, name: str) -> None:
    """Whoever may write to the store must not write to the machines that read it."""
    part = begun(s3_url, tmp_path / "one")
    about = {"bytes": 1, "sha256": "0" * 64}
    manifest = Manifest("chi", FIELDS, {name: about}, {})
    Objects(s3_url).put("chi.json", encoded({"format": 1, "generation": 1, "manifest": asdict(manifest)}))
    with pytest.raises(UserError, match="names the file"):
        part.mirror.fetch_stage("chi")
    assert not list(tmp_path.rglob("outside"))


def test_a_run_of_another_format_is_refused(s3_url: str, tmp_path: Path) -> None:
    Objects(s3_url).put("chi.json", b'{"format": 99}')
    with pytest.raises(UserError, match=r"chi\.json has format 99, this version reads 1"):
        Mirror(s3_url, tmp_path).pointer("chi")


def chain(folder: Path, steps: int, log: Path, stop: int) -> Mapping[str, np.ndarray]:
    """Goes on from its checkpoint, which it writes at every step; ends on its way if it is told to."""
    place = folder / "checkpoint"
    begin = int(place.read_text()) if place.exists() else 0
    for step in range(begin, steps):
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{step}\n")
        (folder / f"draw-{step}").write_text(str(step))
        place.write_text(str(step + 1))
        snapshots.saved(folder)
        if step == stop:
            raise EndedError
    place.unlink()
    return {"steps": np.array([steps])}


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.0, [0, 1, 2, 3, 4, 5]), (1000.0, [0, 1, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5])]
)
def test_an_unfinished_shard_goes_on_elsewhere_from_what_was_sent_of_it(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, steps: list[int]
) -> None:
    monkeypatch.setattr(snapshots, "SECONDS", seconds)
    log = tmp_path / "log"

    def on(machine: str, stop: int) -> Part:
        part = begun(s3_url, tmp_path / machine)
        assert not part.finished()
        item = Item("00000", chain, {"steps": 6, "log": log, "stop": stop}, keeps_files=True)
        MirroredEngine(LocalEngine(), part).run([item], part.folder, "chains", Silent())
        return part

    for machine, stop in (("one", 1), ("two", 3)):
        with pytest.raises(EndedError):
            on(machine, stop)
    part = on("three", -1)
    assert done(log) == steps
    assert [path.name for path in part.finished()] == ["00000"]
    shard = shard_path(part.folder, "00000")
    assert sorted(path.name for path in shard.iterdir()) == [*(f"draw-{step}" for step in range(6)), "steps.npy"]
    publish(part)
    assert not [key for key in Objects(s3_url).list() if ".unfinished" in key]
    assert snapshots.OPEN == {}
