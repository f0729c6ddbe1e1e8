"""`kill -9` between any two steps of writing to a store: the next run, here or elsewhere, ends with the same bytes."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import storage_work
import warm
from balmer.stages import NAMES
from runs import content, write_run_file
from s3server import Server
from scale.engine import Item
from scale.mirror import Mirror
from scale.objects import Objects
from scale.part import part_of
from scale.store import Shards

#: Where the process ends: before or after which write; and on which machine the run goes on.
ENDS = (
    ("lock.json$", True, "one"),
    (r"draws\.part/.*/shards/l1h0.*\.json$", False, "one"),  # between a shard's files and its marker
    (r"draws\.part/.*/shards/.*\.json$", True, "two"),  # between two shards
    (r"chi\.part/.*/shards/00001\.json$", True, "one"),
    (r"^aux\.json$", False, "two"),  # between a stage's files and what names them
    (r"^clusters\.json$", True, "one"),  # between that and the removal of what it replaces
    (r"report/files/index\.html", True, "two"),
)


def test_killed_at_every_step(
    tmp_path: Path, model_folder: Path, text_folder: Path, s3_server: Server, s3_url: str
) -> None:
    run_file = write_run_file(tmp_path / "run.yaml", tmp_path / "whole", model_folder, text_folder)
    said = tmp_path / "said"

    def run(*flags: str, pattern: str = "", after: bool = False) -> int | None:
        arguments = ["run", str(run_file), *flags]
        process = warm.call(storage_work.command_line, s3_server.environment, arguments, pattern, after, said=said)
        process.join()
        return process.exitcode

    assert run() == 0
    for pattern, after, machine in ENDS:
        flags = ("--folder", s3_url, "--scratch", str(tmp_path / machine))
        ended = run(*flags, pattern=pattern, after=after)
        assert ended == -signal.SIGKILL, (pattern, said.read_text(encoding="utf-8"))
    assert run("--folder", s3_url, "--scratch", str(tmp_path / "three")) == 0, said.read_text(encoding="utf-8")
    expected = content(tmp_path / "whole")
    assert len(expected) > 50
    mirror = Mirror(s3_url, tmp_path / "reader")
    for name in NAMES:
        mirror.fetch_stage(name)
    assert content(tmp_path / "reader") == expected
    left = Objects(s3_url).list()
    assert not [key for key in left if ".part/" in key or key == "lock.json"]
    manifests = {name: mirror.pointer(name) for name in NAMES}
    named = sum(len(pointer.manifest.files) for pointer in manifests.values() if pointer)
    assert len([key for key in left if "/files/" in key]) == named
    history = Objects(s3_url).get("history.jsonl")
    assert history is not None
    made = [json.loads(line)["stage"] for line in history.content.decode().splitlines()]
    assert sorted(made) == sorted(set(NAMES) - {"clusters"})  # which was published, and ended before it was noted


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
