"""The lock on a file: gone with its process, and waited for where its holder was on a machine that died."""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scale.errors import UserError
from scale.storage import holders
from scale.storage.filelock import locked


def nothing(line: str) -> None:
    raise AssertionError(line)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "LOOK_SECONDS", 0.01)


class Held:
    """The lock as a process elsewhere holds it: another description of the file, which flock tells from ours."""

    def __init__(self, path: Path, **changes: Any) -> None:
        holder = holders.this_process() | {"host": "elsewhere", "pid": 1} | changes
        path.write_bytes(holders.content_of(holder))
        self.file = open(path, "rb")  # noqa: SIM115 (held until let go)
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def let_go(self) -> None:
        self.file.close()


@pytest.fixture
def elsewhere(path: Path) -> Iterator[Held]:
    held = Held(path)
    yield held
    held.let_go()


def test_it_names_its_holder_keeps_others_out_and_is_free_afterwards(path: Path) -> None:
    path.write_bytes(b"left by an earlier one, and longer than what is written next" * 10)
    for _ in range(2):
        with locked(path, "runs/one", nothing):
            assert json.loads(path.read_bytes())["pid"] == os.getpid()
            with (
                pytest.raises(UserError, match=r"^folder: another balmer is at work in runs/one; wait"),
                locked(path, "runs/one", nothing),
            ):
                raise AssertionError("two hold it")
            assert json.loads(path.read_bytes())["pid"] == os.getpid()  # one that only asks changes nothing
    assert path.read_bytes() == b""
    assert [thread.name for thread in threading.enumerate() if thread.name == "balmer lock"] == []


@pytest.mark.parametrize("content", [b"", b"half a li"])
def test_a_holder_that_is_not_named_is_at_work(path: Path, elsewhere: Held, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match="another balmer is at work"), locked(path, "runs/one", nothing):
        raise AssertionError("two hold it")


def test_it_is_renewed_while_it_is_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "RENEW_SECONDS", 0.02)
    with locked(path, "runs/one", nothing):
        first = path.stat().st_mtime_ns
        assert not holders.silent(lambda: path.stat().st_mtime_ns, first, 10.0)
    last = path.stat().st_mtime_ns
    assert holders.silent(lambda: path.stat().st_mtime_ns, last, 0.2)


def test_one_whose_machine_died_is_outlasted(path: Path, elsewhere: Held) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            threading.Timer(0.2, elsewhere.let_go).start()  # as a file system does, in its own time

    with locked(path, "runs/one", say):
        assert json.loads(path.read_bytes())["pid"] == os.getpid()
    assert said[0].startswith("runs/one is locked by process 1 on elsewhere, since ")
    assert said[0].endswith("waiting for a sign of life, 300 s at most (Ctrl-C gives up)")
    assert said[1].startswith("lock of process 1 on elsewhere")
    assert len(said) == 2


def test_one_that_gives_a_sign_of_life_is_at_work(path: Path, elsewhere: Held) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        threading.Timer(0.2, os.utime, (path,)).start()

    with pytest.raises(UserError, match="another balmer is at work in runs/one"), locked(path, "runs/one", say):
        raise AssertionError("two hold it")
    assert len(said) == 1
    assert json.loads(path.read_bytes())["pid"] == 1


def test_a_lock_that_the_file_system_never_lets_go_of_is_said_how_to_remove(
    path: Path, elsewhere: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "STALE_SECONDS", 0.2)
    with (
        pytest.raises(UserError, match=rf"process 1 on elsewhere, since .* if it is gone, delete {path}$"),
        locked(path, "runs/one", lambda line: None),
    ):
        raise AssertionError("two hold it")
    path.unlink()
    with locked(path, "runs/one", nothing):
        pass
