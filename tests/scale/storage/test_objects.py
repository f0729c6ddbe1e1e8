"""Objects on a real server: what is put is got, conditions are kept, and what is refused is one line."""

import errno
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from s3server import Server, serving
from scale.errors import UserError
from scale.storage import objects as module
from scale.storage.objects import (
    LostError,
    Objects,
    UnconditionalError,
    checked_url,
    open_objects,
    server_time,
    side_by_side,
)


def test_what_is_put_is_got_and_listed_by_whole_names(s3_url: str, tmp_path: Path) -> None:
    objects = Objects(s3_url)
    (tmp_path / "large").write_bytes(bytes(range(256)) * 60_000)  # sent in parts
    objects.put("chi/large", tmp_path / "large")
    objects.put("chi.part/x.json", b"{}")
    objects.put("chi/small", b"small")
    assert objects.fetch("chi/large", tmp_path / "back") is not None
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()
    assert objects.list("chi/") == {"chi/large": 256 * 60_000, "chi/small": 5}
    assert set(objects.list()) == {"chi/large", "chi/small", "chi.part/x.json"}
    assert objects.names() == {"chi", "chi.part"}
    objects.delete(["chi/small"])
    assert objects.get("chi/small") is None
    assert objects.fetch("chi/small", tmp_path / "none") is None
    assert objects.traffic.sent == 256 * 60_000 + 7
    assert objects.traffic.received == 256 * 60_000


def test_a_swap_is_refused_where_another_object_is(s3_url: str) -> None:
    objects = Objects(s3_url)
    tag = objects.swap("key", b"first", None)
    assert tag
    assert objects.swap("key", b"second", None) is None
    assert objects.swap("key", b"second", "no-such-tag") is None
    newer = objects.swap("key", b"third", tag)
    assert newer
    assert newer != tag
    assert objects.swap("key", b"fourth", tag) is None
    found = objects.get("key")
    assert found is not None
    assert found.content == b"third"
    assert objects.swap("none", b"x", tag) is None  # nothing is there to be replaced


def test_a_swap_whose_answer_was_lost_finds_its_own_object(s3_url: str) -> None:
    """The request is sent again, and finds what the first one put."""
    objects = Objects(s3_url)
    tag = objects.swap("key", b"ours", None)
    assert objects.swap("key", b"ours", None) == tag


def test_the_store_has_a_clock(s3_url: str) -> None:
    objects = Objects(s3_url)
    assert abs((server_time(objects, "asked") - datetime.now(UTC)).total_seconds()) < 60
    assert objects.list() == {}


def test_results_of_calls_side_by_side_are_in_order() -> None:
    assert side_by_side(lambda x: x * x, list(range(30))) == [x * x for x in range(30)]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda x: 1 // x, [1, 0, 2])


@pytest.mark.parametrize(
    ("url", "word"),
    [("sftp://host/x", "no scheme that is known"), ("s3://bucket", "names no folder"), ("memory:///x", "s3://, gs://")],
)
def test_a_url_that_cannot_be_is_refused_in_one_line(url: str, word: str) -> None:
    with pytest.raises(UserError, match=word) as raised:
        checked_url(url)
    assert str(raised.value).startswith("folder: ")
    assert "\n" not in str(raised.value)


def test_slashes_at_the_end_are_no_other_folder() -> None:
    assert checked_url("gs://bucket/a/b//") == "gs://bucket/a/b"


def one_line(action: Any) -> str:
    with pytest.raises(UserError) as raised:
        action()
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("folder: ")
    return str(raised.value)


@pytest.mark.parametrize(
    "action",
    [
        lambda o: o.get("x"),
        lambda o: o.put("x", b""),
        lambda o: o.list(),
        lambda o: o.names(),
        lambda o: o.swap("x", b"", None),
    ],
)
def test_a_bucket_that_is_not_there_is_named(s3_url: str, action: Any) -> None:
    objects = Objects("s3://no-such-bucket/runs/one")
    assert "no bucket no-such-bucket" in one_line(lambda: action(objects))


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    assert "pip install '.[cluster]'" in one_line(lambda: Objects("s3://bucket/x"))


@pytest.fixture
def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, str]]:
    """A server that a test may end, and a client that gives up soon."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.5)
    with serving() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server, f"s3://{server.bucket()}/lost"


def test_a_network_that_is_lost_is_one_line_that_says_how_to_go_on(lost: tuple[Server, str]) -> None:
    server, url = lost
    objects = Objects(url)
    objects.put("before", b"x")
    server.process.kill()
    server.process.wait()
    for action in (lambda: objects.put("x", b"y"), lambda: objects.get("before"), lambda: objects.list()):
        said = one_line(action)
        assert "give the same command again: finished shards are kept" in said
    with pytest.raises(LostError):
        objects.put("x", b"y")


def test_without_credentials_the_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.2)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    said = one_line(lambda: Objects("s3://bucket/no-credentials").get("x"))
    assert "no credentials" in said
    assert "AWS_ACCESS_KEY_ID" in said


def test_what_the_store_forbids_names_the_variables() -> None:
    from obstore.exceptions import PermissionDeniedError

    def forbidden() -> None:
        with module.explained("s3://bucket/x", "write chi.json"):
            raise PermissionDeniedError("<Error><Code>AccessDenied</Code></Error>")

    said = one_line(forbidden)
    assert "not allowed to write chi.json (AccessDenied)" in said
    assert "AWS_ACCESS_KEY_ID" in said


def test_a_full_disk_names_the_file(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects(s3_url)
    objects.put("x", b"content")
    with pytest.raises(OSError) as raised:
        objects.fetch("x", Path("/dev/full"))
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename == "/dev/full"


def test_a_store_without_conditions_is_told_apart(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from obstore.exceptions import NotSupportedError

    objects = Objects(s3_url)

    class Without:
        def __getattr__(self, name: str) -> Any:
            raise NotSupportedError("no conditions")

    monkeypatch.setattr(objects, "library", Without())
    with pytest.raises(UnconditionalError, match="no conditional writes"):
        objects.swap("x", b"", None)


def test_one_connection_for_a_url(s3_url: str) -> None:
    assert open_objects(s3_url) is open_objects(s3_url)
    open_objects(s3_url).put("json", json.dumps([1]).encode())
    assert json.loads(Objects(s3_url).get("json").content) == [1]  # type: ignore[union-attr]
