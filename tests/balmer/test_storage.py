"""A run on a store: killed between any two steps of writing, gone on with elsewhere, looked at and changed from
machines that share nothing else."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import storage_work
import warm
from balmer.cli import main
from balmer.stages import NAMES
from runs import content, write_run_file
from s3server import Server
from scale.engine import Item
from scale.storage.lease import held
from scale.storage.mirror import Mirror
from scale.storage.objects import Objects, open_objects
from scale.storage.part import part_of
from scale.store import Shards

#: Where the process ends: before or after which write; and on which machine the run goes on.
ENDS = (
    (r"draws\.part/.*/shards/l1h0.*\.json$", False, "one"),  # between a shard's files and its marker
    (r"draws\.part/.*/shards/.*\.json$", True, "two"),  # between two shards
    (r"^aux\.json$", False, "two"),  # between a stage's files and what names them
    (r"^clusters\.json$", True, "one"),  # between that and the removal of what it replaces
)


#: Half the text is enough.
SMALLER = ("--corpus.truth_contexts", "8", "--corpus.upsample_contexts", "12")


@dataclass(frozen=True)
class Finished:
    """A run on a store, and the same run in a local folder."""

    url: str
    folder: Path

    @property
    def made(self) -> list[str]:
        """Stages in the order in which they were ever made."""
        found = open_objects(self.url).get("history.jsonl")
        assert found is not None
        return [json.loads(line)["stage"] for line in found.content.decode().splitlines()]

    def files_of(self, stage: str) -> dict[str, str]:
        return {name: digest for name, digest in content(self.folder).items() if name.startswith(f"{stage}/")}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Path, text_folder: Path, s3_server: Server
) -> Iterator[Finished]:
    """Made on the store by processes of which all but the last were killed; the local one in peace."""
    place, url = tmp_path_factory.mktemp("run"), f"s3://{s3_server.bucket()}/runs/tiny"
    run_file = write_run_file(place / "run.yaml", place / "whole", model_folder, text_folder)
    said = place / "said"

    def run(*flags: str, pattern: str = "", after: bool = False) -> int | None:
        arguments = ["run", str(run_file), *SMALLER, *flags]
        process = warm.call(storage_work.command_line, s3_server.environment, arguments, pattern, after, said=said)
        process.join()
        return process.exitcode

    assert run() == 0
    for pattern, after, machine in ENDS:
        ended = run("--folder", url, "--scratch", str(place / machine), pattern=pattern, after=after)
        assert ended == -signal.SIGKILL, (pattern, said.read_text(encoding="utf-8"))
    assert run("--folder", url, "--scratch", str(place / "last")) == 0, said.read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        yield Finished(url, place / "whole")


def copy_of(scratch: Path) -> Path:
    """The one copy in a scratch folder."""
    (copy,) = scratch.iterdir()
    return copy


def test_the_same_bytes_as_in_a_local_folder(finished: Finished, tmp_path: Path) -> None:
    mirror = Mirror(finished.url, tmp_path)
    for name in NAMES:
        mirror.fetch_stage(name)
    expected = content(finished.folder)
    assert len(expected) > 50
    assert content(tmp_path) == expected


def test_nothing_is_left_of_the_killed(finished: Finished) -> None:
    objects = open_objects(finished.url)
    assert objects.names() == {
        *NAMES,
        *(f"{name}.json" for name in NAMES),
        "run.yaml",
        "history.jsonl",
        "progress.json",
    }
    pointers = [Mirror(finished.url, Path()).pointer(name) for name in NAMES]
    named = sum(len(pointer.manifest.files) for pointer in pointers if pointer)
    assert len([key for key in objects.list() if "/files/" in key]) == named


def test_nothing_that_was_published_was_made_again(finished: Finished) -> None:
    assert finished.made == [name for name in NAMES if name != "clusters"]  # published, and killed before it was noted


def test_another_machine_has_nothing_to_do_and_shows_the_report(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = finished.made
    assert main(["run", finished.url, "--scratch", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "Nothing to do" in said
    assert f"{copy_of(tmp_path) / 'report' / 'index.html'}" in said
    assert finished.made == history
    assert content(copy_of(tmp_path)) == finished.files_of("report")


def test_status_looks_and_leaves_nothing(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_objects(finished.url).list()
    assert main(["status", f"{finished.url}/", "--scratch", str(tmp_path / "none"), "--cluster.k", "9"]) == 0
    said = capsys.readouterr().out
    assert "cluster.k: 8 -> 9" in said
    states = {line.split()[0]: line.split()[1] for line in said.splitlines() if not line.startswith(" ")}
    assert [name for name, state in states.items() if state == "stale"] == ["clusters", "leakage", "report"]
    assert [name for name, state in states.items() if state == "done"] == list(NAMES[:6])
    assert not (tmp_path / "none").exists()
    assert open_objects(finished.url).list() == before


def test_another_machine_changes_what_it_is_asked_to_and_back(finished: Finished, tmp_path: Path) -> None:
    url, before, count = finished.url, open_objects(finished.url).list(), len(finished.made)
    command = ["run", url, "--scratch", str(tmp_path), "--quiet", "--until", "clusters"]
    assert main([*command, "--cluster.k", "9"]) == 0
    assert finished.made[count:] == ["clusters"]
    changed = {key for key in set(open_objects(url).list()) ^ set(before) if "/files/" in key}
    assert {key.split("/")[0] for key in changed} == {"clusters"}
    fetched = {path.name for path in copy_of(tmp_path).iterdir() if path.is_dir()}
    assert fetched == {"aux", "upsampled", "clusters"}  # what that stage reads, and no more
    assert main([*command, "--cluster.k", "8"]) == 0
    assert set(open_objects(url).list()) == set(before)
    Mirror(url, tmp_path / "reader").fetch_stage("clusters")
    assert content(tmp_path / "reader") == finished.files_of("clusters")


def test_the_report_is_fetched_to_be_opened(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["report", finished.url, "--open", "--scratch", str(tmp_path)]) == 0
    index = copy_of(tmp_path) / "report" / "index.html"
    assert opened == [index.as_uri()]
    assert index.is_file()
    assert str(index) in capsys.readouterr().out


def test_one_at_a_time(finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with held(Objects(finished.url), print):
        assert main(["run", finished.url, "--scratch", str(tmp_path), "--quiet"]) == 2
        assert f"another balmer is at work in {finished.url}" in capsys.readouterr().err
        assert main(["status", finished.url]) == 0  # looking is no work
    assert main(["run", finished.url, "--scratch", str(tmp_path), "--quiet"]) == 0


def test_two_writers_at_once_on_separate_shards(tmp_path: Path, s3_server: Server, s3_url: str) -> None:
    """Two processes with folders of their own, as on two machines; a third puts together what they made."""
    processes = []
    for machine in range(2):
        part = part_of(Mirror(s3_url, tmp_path / f"machine-{machine}"), "chi", {}, None)
        for index in range(machine, 6, 2):
            item = Item(f"{index:05d}", storage_work.numbers, {"value": index}, part=part)
            arguments = (s3_server.environment, item, part.folder)
            processes.append(warm.call(storage_work.one_item, *arguments, said=tmp_path / f"said-{index}"))
    for process in processes:
        process.join()
        assert process.exitcode == 0
    third = replace(part, mirror=Mirror(s3_url, tmp_path / "third"))
    third.begin({})
    assert [int(block[0]) for block in Shards(third.folder).blocks("values")] == list(range(6))
    assert sum(map(len, Shards(third.folder).blocks("values"))) == 1_200_000
