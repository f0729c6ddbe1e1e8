"""What machines of a cluster say of themselves, and what is wrong with one among others."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from balmer import doctor, nodes
from balmer.config import RunConfig
from balmer.nodes import MARK, NodeFacts, folder_access, judged, marked, node_facts

ALIKE = NodeFacts("one", {"python": "3.11.7", "torch": "2.13.0"}, ("H200",) * 8, True, 64, 2**39)


def test_this_machine_is_described_and_can_be_sent(tmp_path: Path) -> None:
    with marked(tmp_path) as mark:
        facts = node_facts(str(tmp_path), mark)
    assert pickle.loads(pickle.dumps(facts)) == facts
    assert facts.folder == ""
    assert {"python", "balmer", "torch", "numpy"} <= set(facts.versions)
    assert facts.cores >= 1
    assert facts.memory_bytes > 2**28
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_folder_of_the_same_name_on_another_disk_is_found_out(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with marked(here) as mark:
        assert mark.startswith(MARK)
        assert folder_access(here, mark) == ""
        assert "is another folder here" in folder_access(there, mark)
        assert "does not exist here" in folder_access(tmp_path / "nowhere", mark)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert "cannot be written: Permission denied" in folder_access(tmp_path, "")


def test_runs_on_a_store_need_no_folder() -> None:
    assert node_facts("s3://bucket/run").folder == ""


def test_machines_that_are_alike_will_do() -> None:
    lines = judged({"a": ALIKE, "b": replace(ALIKE, host="two")})
    assert [good for _, _, good in lines] == [True, True]
    assert lines[1][:2] == ("b", "two: 64 cores, 512 GiB, 8 x H200")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"versions": {"python": "3.11.7", "torch": "2.12.0"}}, "torch 2.12.0, elsewhere 2.13.0"),
        ({"versions": {"python": "3.11.7"}}, "torch missing, elsewhere 2.13.0"),
        ({"versions": {**ALIKE.versions, "ray": "2"}}, "ray 2, elsewhere missing"),
        ({"faiss_on_gpu": False}, "faiss without GPU support"),
        ({"folder": "/runs does not exist here"}, "/runs does not exist here"),
    ],
)
def test_the_odd_one_out_is_named_wherever_it_stands(changes: dict[str, object], said: str) -> None:
    odd = replace(ALIKE, host="odd", **changes)  # type: ignore[arg-type]
    for place in range(3):
        three = [ALIKE, ALIKE]
        three.insert(place, odd)
        lines = judged({str(index): one for index, one in enumerate(three)})
        assert [good for _, _, good in lines] == [index != place for index in range(3)]
        assert said in lines[place][1]


def test_a_processor_needs_no_faiss_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = replace(ALIKE, gpus=(), faiss_on_gpu=False)
    assert judged({"a": plain})[0][1:] == ("one: 64 cores, 512 GiB, no GPU", True)
    monkeypatch.setattr(nodes, "visible_gpus", lambda: 0)
    assert node_facts("s3://bucket/run").gpus == ()


def test_the_doctor_asks_every_machine_of_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked about the folder, or the one above it while there is no run yet, and for a file that lies there."""
    engine = pytest.importorskip("scale.ray.engine")
    asked = []

    def ask(config: object, function: object, folder: str, mark: str) -> dict[str, NodeFacts]:
        asked.append((function, folder, (Path(folder) / mark).is_file()))
        return {"10.0.0.1 a": ALIKE, "10.0.0.2 b": replace(ALIKE, host="two", folder="/runs does not exist here")}

    monkeypatch.setattr(engine, "ask_every_node", ask)
    found = doctor.every_node(RunConfig(folder=str(tmp_path / "runs" / "mine"), engine="ray"))
    assert asked == [(node_facts, str(tmp_path), True)]
    assert [(one.subject, one.good) for one in found] == [("node 10.0.0.1 a", True), ("node 10.0.0.2 b", False)]
    assert "/runs does not exist here" in found[1].found
    assert list(tmp_path.iterdir()) == []
    assert doctor.every_node(RunConfig(folder=str(tmp_path))) == []
    assert len(asked) == 1
