"""What can go wrong with a run on a store is one line that says what to do; `file://` is a local folder."""

import errno
import re
from pathlib import Path
from typing import Any

import pytest

from balmer import cli
from balmer.cli import main
from balmer.remote import RemoteFolder, open_folder, scratch
from balmer.runfile import read_run
from runs import content, write_run_file
from scale.storage.lease import KEY, lock_content
from scale.storage.objects import LostError, Objects, open_objects


@pytest.fixture
def run_file(tmp_path: Path, model_folder: Path, text_folder: Path) -> str:
    return str(write_run_file(tmp_path / "tiny.yaml", tmp_path / "unused", model_folder, text_folder))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith("balmer: ")
    assert said.count("\n") == 1, said
    return said


def test_a_folder_with_something_else_in_it_is_refused(
    s3_url: str, run_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_objects(s3_url).put("thesis.tex", b"x")
    said = refused(capsys, "run", run_file, "--folder", s3_url, "--scratch", str(tmp_path))
    assert f"{s3_url} is not empty and not a run" in said
    assert open_objects(s3_url).list() == {"thesis.tex": 1}
    assert f"{s3_url}: not a run folder" in refused(capsys, "status", s3_url)


def test_a_lock_that_was_left_is_nothing_else(s3_url: str, run_file: str) -> None:
    """Of a process that ended before it had written its run file."""
    folder = open_folder(read_run(run_file, ["--folder", s3_url]))
    open_objects(s3_url).put(KEY, lock_content("theirs"))
    open_objects(s3_url).put(f"{KEY}.asked-1", b"")
    folder.check()
    assert not folder.exists()
    open_objects(s3_url).put("thesis.tex", b"x")
    assert folder.exists()


def test_after_a_mistake_nothing_is_left(
    s3_url: str, run_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "does not exist; balmer run makes it" in refused(capsys, "status", run_file, "--folder", s3_url)
    flags = ("--folder", s3_url, "--scratch", str(tmp_path / "scratch"), "--corpus.truth_contexts", "4000")
    refused(capsys, "run", run_file, *flags, "--quiet")
    assert open_objects(s3_url).list() == {}
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("command", [["calibrate"], ["controls"], ["run", "--control", "permuted"]])
def test_what_needs_a_local_folder_says_so(
    run_file: str, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    said = refused(capsys, command[0], run_file, "--folder", "s3://bucket/run", *command[1:])
    assert "works on local folders alone; add --folder" in said


def test_a_run_on_a_store_is_not_compared_with(run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--compare: s3://bucket/other" in refused(capsys, "report", run_file, "--compare", "s3://bucket/other")


@pytest.mark.parametrize("url", ["ftp://host/run", "s3://bucket"])
def test_a_url_that_cannot_be_is_refused(url: str, run_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"folder: {url}" in refused(capsys, "status", run_file, "--folder", url)


def test_the_doctor_tries_the_store(
    run_file: str, s3_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", run_file, "--folder", s3_url]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "store" in line]
    assert len(lines) == 1
    assert lines[0].startswith("ok")
    assert "conditional writes" in lines[0]
    assert Objects(s3_url).list() == {}
    assert main(["doctor", run_file, "--folder", "s3://no-such-bucket/x"]) == 1
    assert "there is no bucket no-such-bucket" in capsys.readouterr().out


def test_a_file_url_is_a_local_folder(run_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"file://{tmp_path}/a%20run"
    command = ["run", run_file, "--folder", url, "--until", "corpus"]
    assert main([*command, "--quiet"]) == 0
    assert main(["run", run_file, "--folder", str(tmp_path / "plain"), "--until", "corpus", "--quiet"]) == 0
    assert content(tmp_path / "a run") == content(tmp_path / "plain") != {}
    assert main(["status", url]) == 0
    assert "corpus     done" in capsys.readouterr().out


def test_a_store_that_is_lost_in_mid_run_is_one_line_and_the_next_run_goes_on(
    s3_url: str,
    run_file: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["run", run_file, "--folder", s3_url, "--scratch", str(tmp_path), "--quiet", "--until", "taps"]
    command += ["--taps.gradients", "false", "--taps.responses", "none"]
    put, taps = Objects.put, []

    def losing(self: Objects, key: str, item: Any) -> None:
        if "/taps.npy" in key:
            taps.append(key)
            if len(taps) > 2:
                raise LostError("folder: lost the store; give the same command again: finished shards are kept")
        put(self, key, item)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "put", losing)
        assert "finished shards are kept" in refused(capsys, *command)
    kept = [key for key in Objects(s3_url).list("taps.part/") if re.fullmatch(r"taps.part/[^/]+/shards/\d+.json", key)]
    assert len(kept) == 2
    assert main(["status", s3_url]) == 0
    assert "begun, 2 shards finished" in capsys.readouterr().out
    assert main(command) == 0


def test_a_full_scratch_is_one_line(
    s3_url: str, run_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Objects, key: str, path: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    command = ["run", run_file, "--folder", s3_url, "--quiet", "--scratch"]
    assert main([*command, str(tmp_path / "roomy"), "--until", "corpus"]) == 0
    monkeypatch.setattr(Objects, "fetch", full)
    said = refused(capsys, *command, str(tmp_path / "full"), "--until", "taps")
    assert f"no space left to write {tmp_path / 'full'}" in said
    assert not [key for key in Objects(s3_url).list() if key.startswith("lock")]


def test_the_copy_has_a_place_of_its_own(run_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    one = read_run(run_file, ["--folder", "s3://bucket/runs/one"])
    other = read_run(run_file, ["--folder", "s3://bucket/runs-one"])
    assert scratch(one).parent == Path("/cache/balmer")
    assert scratch(one) != scratch(other)
    assert scratch(one).name.startswith("s3-bucket-runs-one-")
    assert isinstance(open_folder(one), RemoteFolder)
    assert cli.shown(one.folder) == "s3://bucket/runs/one"
