"""The lock on a store: one at a time, given back, taken over when its holder is gone."""

import json
import os
import re
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from scale.errors import UserError
from scale.storage import holders
from scale.storage import lease as module
from scale.storage.lease import KEY, acquire, held
from scale.storage.objects import LostError, Objects


def nothing(line: str) -> None:
    raise AssertionError(line)


def holder(objects: Objects) -> dict[str, Any]:
    found = objects.get(KEY)
    assert found is not None
    answer: dict[str, Any] = json.loads(found.content)
    return answer


def test_one_holds_it_another_is_refused_and_afterwards_it_is_free(s3_url: str) -> None:
    objects = Objects(s3_url)
    with held(objects, nothing) as lease:
        assert lease is not None
        lease.check()
        assert holder(objects)["pid"] == os.getpid()
        with pytest.raises(UserError, match=rf"another balmer is at work in {s3_url} \(process {os.getpid()} on"):
            acquire(Objects(s3_url), nothing)
        assert holder(objects)["token"] == lease.token
    assert objects.list() == {}
    with held(objects, nothing):
        pass


def test_it_is_given_back_after_a_failure(s3_url: str) -> None:
    objects = Objects(s3_url)
    with pytest.raises(ZeroDivisionError), held(objects, nothing):
        1 / 0  # noqa: B018
    assert objects.list() == {}


def test_of_many_at_once_one_has_it(s3_url: str) -> None:
    gate, outcomes = threading.Barrier(6), []

    def attempt() -> None:
        objects = Objects(s3_url)
        gate.wait()
        try:
            acquire(objects, nothing)
            outcomes.append("has it")
        except UserError:
            outcomes.append("refused")

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["has it"] + ["refused"] * 5


def left_by(objects: Objects, **changes: Any) -> None:
    """A lock whose holder, somewhere else, has ended without giving it back."""
    content = json.loads(module.lock_content("theirs")) | {"host": "elsewhere", "pid": 1} | changes
    objects.put(KEY, json.dumps(content).encode())


def test_a_lock_that_is_not_renewed_is_taken_over_in_words(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, said = Objects(s3_url), list[str]()
    left_by(objects)
    monkeypatch.setattr(module, "STALE_SECONDS", 1.0)
    time.sleep(2.5)  # the store tells times in whole seconds
    lease = acquire(objects, said.append)
    assert len(said) == 1
    assert "taken over: it was not renewed" in said[0]
    assert holder(objects)["token"] == lease.token
    assert set(objects.list()) == {KEY}


def test_one_that_comes_before_it_is_stale_waits_for_that(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALE_SECONDS", 4.0)
    objects, said = Objects(s3_url), list[str]()
    left_by(objects)
    came = time.monotonic()
    lease = acquire(objects, said.append)
    assert time.monotonic() - came > 2  # the store tells times in whole seconds
    assert re.search(r"locked by process 1 on elsewhere, .* [34] s at most \(Ctrl-C gives up\)", said[0])
    assert "taken over: it was not renewed" in said[1]
    assert holder(objects)["token"] == lease.token


@pytest.mark.parametrize("ends", ["renews", "gives back", "is another"])
def test_it_is_not_taken_from_one_that_shows_itself(s3_url: str, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    monkeypatch.setattr(holders, "LOOK_SECONDS", 0.05)
    objects, said = Objects(s3_url), list[str]()
    left_by(objects)

    def say(line: str) -> None:
        said.append(line)
        if ends == "gives back":
            objects.delete([KEY])
        else:
            left_by(objects, pid=2, **({"token": "another"} if ends == "is another" else {}))

    came = time.monotonic()
    if ends == "gives back":
        lease = acquire(objects, say)
        assert holder(objects)["token"] == lease.token
    else:
        with pytest.raises(UserError, match=r"^folder: another balmer is at work in .*process 2 on elsewhere"):
            acquire(objects, say)
        assert holder(objects)["host"] == "elsewhere"
    assert len(said) == 1
    assert time.monotonic() - came < 60  # far less than until it is stale


def test_a_lock_of_a_process_of_this_machine_that_is_gone_is_taken_at_once(s3_url: str) -> None:
    objects, said = Objects(s3_url), list[str]()
    left_by(objects, host=module.machine(), pid=2**22 + 1)  # beyond the largest that there can be
    acquire(objects, said.append)
    assert "process 4194305 no longer holds it" in said[0]


def test_a_store_that_was_lost_is_not_waited_for_and_its_lock_is_no_obstacle(s3_url: str) -> None:
    objects, said = Objects(s3_url), list[str]()
    with pytest.raises(LostError), held(objects, nothing):
        raise LostError("lost")
    assert KEY in objects.list()
    with held(objects, said.append):
        assert f"process {os.getpid()} no longer holds it" in said[0]
    assert objects.list() == {}


def test_of_many_that_would_take_it_over_one_does(s3_url: str) -> None:
    left_by(Objects(s3_url), host=module.machine(), pid=2**22 + 1)
    gate, outcomes = threading.Barrier(4), []

    def attempt() -> None:
        objects = Objects(s3_url)
        gate.wait()
        with suppress(UserError):
            outcomes.append(acquire(objects, lambda line: None).token)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [holder(Objects(s3_url))["token"]] == outcomes


def test_it_is_renewed_while_it_is_held(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    objects = Objects(s3_url)
    with held(objects, nothing) as lease:
        assert lease is not None
        first = holder(objects)["renewed"]
        waited = time.monotonic() + 10
        while holder(objects)["renewed"] == first and time.monotonic() < waited:
            time.sleep(0.02)
        assert holder(objects)["renewed"] > first
        assert holder(objects)["token"] == lease.token


def test_one_whose_lock_was_taken_over_may_not_go_on(s3_url: str) -> None:
    objects = Objects(s3_url)
    lease = acquire(objects, nothing)
    left_by(objects)  # as another does that takes it over
    lease.renew()
    with pytest.raises(UserError, match="may be another's"):
        lease.check()
    lease.release()
    assert holder(objects)["host"] == "elsewhere"  # theirs stays


def test_one_that_could_not_renew_for_long_may_not_go_on(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = acquire(Objects(s3_url), nothing)
    monkeypatch.setattr(module, "STALE_SECONDS", -1.0)
    with pytest.raises(UserError, match="was not renewed"):
        lease.check()


def test_a_store_that_ignores_conditions_has_no_lock_and_says_so(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def heedless(self: Objects, key: str, content: bytes, tag: str | None) -> str:
        self.put(key, content)
        return "tag"

    monkeypatch.setattr(Objects, "swap", heedless)
    said: list[str] = []
    with ExitStack() as stack:
        assert stack.enter_context(held(Objects(s3_url), said.append)) is None
    assert len(said) == 1
    assert "no conditional writes" in said[0]
    assert Objects(s3_url).list() == {}
