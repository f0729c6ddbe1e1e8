"""Items on a Ray cluster: the bytes of the local engine, and what becomes of items, workers and nodes that fail."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import ray_items
from ray.cluster_utils import Cluster
from raylets import add_node, raylets

from scale.config import RayConfig
from scale.engine import Item, LocalEngine
from scale.errors import SetAsideError, UserError
from scale.progress import Silent
from scale.ray import pool
from scale.ray.engine import RayEngine, on_every_node
from scale.ray.pool import Node, Part, parts
from scale.store import SHARDS, Shards, describe_files, remove_unfinished


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with raylets(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def engine(cluster: Cluster, root: Path) -> Iterator[RayEngine]:
    """One for all tests: its workers outlive the items that fail."""
    engine = RayEngine(RayConfig(patience=60), root)
    yield engine
    engine.close()


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def made(root: Path, name: str) -> tuple[Path, Path]:
    """The unfinished folder of a stage, and one for notes."""
    notes = root / f"{name}-notes"
    notes.mkdir()
    return root / f"{name}.part", notes


def attempts(notes: Path, value: int) -> int:
    return len((notes / f"tried-{value}").read_text(encoding="utf-8").splitlines())


def in_trouble(how: str, notes: Path) -> list[Item]:
    return [
        Item(f"{value:05d}", ray_items.troubled, {"value": value, "how": how, "notes": notes}) for value in range(5)
    ]


def test_the_same_bytes_as_side_by_side_in_one_process(engine: RayEngine, root: Path, tmp_path: Path) -> None:
    items = [Item(f"{seed:05d}", ray_items.product, {"seed": seed}) for seed in range(6)]
    engine.run(items, root / "products.part", "products", Silent())
    LocalEngine(2).run(items, tmp_path, "products", Silent())
    expected = describe_files(tmp_path)
    assert len(expected) == 12
    assert describe_files(root / "products.part") == expected
    assert set(Shards(tmp_path).stack("threads")) == {1}


def test_what_is_done_is_not_done_again(engine: RayEngine, root: Path) -> None:
    folder, notes = made(root, "again")
    items = in_trouble("is sound", notes)
    engine.run(items[:3], folder, "items", Silent())
    engine.run(items, folder, "items", Silent())
    assert [attempts(notes, value) for value in range(5)] == [1] * 5


@pytest.mark.parametrize(
    ("how", "reason"), [("raises", "RuntimeError: item 2 is broken"), ("kills", "its worker died")]
)
def test_an_item_that_always_fails_is_named_and_the_rest_is_done(
    engine: RayEngine, root: Path, how: str, reason: str
) -> None:
    folder, notes = made(root, how)
    heard = Heard()
    with pytest.raises(SetAsideError) as caught:
        engine.run(in_trouble(how, notes), folder, "items", heard)
    log = root / "logs" / how / "00002.log"
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("1 of 5 items failed too often and were set aside")
    assert lines == [f"  00002: {reason}; {log}"]
    assert log.read_text(encoding="utf-8").count("attempt") == len(heard.lines) == attempts(notes, 2) == 3
    assert ("in troubled" in log.read_text(encoding="utf-8")) == (how == "raises")
    assert "\x1b" not in log.read_text(encoding="utf-8")
    assert Shards(folder).stack("value").tolist() == [0, 1, 3, 4]
    assert [attempts(notes, value) for value in (0, 1, 3, 4)] == [1] * 4


def test_an_item_whose_worker_dies_twice_is_done_the_third_time(engine: RayEngine, root: Path) -> None:
    folder, notes = made(root, "twice")
    engine.run(in_trouble("kills twice", notes), folder, "items", Silent())
    assert Shards(folder).stack("value").tolist() == [0, 1, 2, 3, 4]
    assert attempts(notes, 2) == 3


def test_what_a_dead_worker_left_in_a_shard_is_found_by_the_next(engine: RayEngine, root: Path) -> None:
    folder, notes = made(root, "kept")
    engine.run([Item("one", ray_items.counting, {"notes": notes}, keeps_files=True)], folder, "items", Silent())
    assert [attempts(notes, found) for found in (0, 2, 4)] == [1, 1, 1]
    assert Shards(folder).stack("steps").tolist() == [4]
    assert {path.name for path in (folder / SHARDS / "one").glob("step-*")} == {f"step-{step}" for step in range(6)}
    remove_unfinished(folder)
    assert [path.name for path in (folder / SHARDS).iterdir()] == ["one"]


def test_a_mistake_of_the_user_is_one_line_at_once(engine: RayEngine, root: Path) -> None:
    folder, notes = made(root, "refused")
    with pytest.raises(UserError) as caught:
        engine.run(in_trouble("refuses", notes), folder, "items", Silent())
    assert str(caught.value) == "model.path: no such thing; name another"
    assert type(caught.value) is UserError
    assert attempts(notes, 2) == 1
    assert not (root / "logs" / "refused").exists()
    with pytest.raises(UserError, match=r"^taps.count: no such thing"):
        engine.ask(ray_items.refuse, "taps.count")


def test_workers_load_once_and_are_kept_from_call_to_call(engine: RayEngine, root: Path) -> None:
    folder, notes = made(root, "loaded")
    for number in range(4):
        items = [Item(f"{number}-{i}", ray_items.using_what_is_loaded, {"notes": notes}) for i in range(3)]
        engine.run(items, folder, "items", Silent())
    processes = set(Shards(folder).stack("process").tolist())
    assert 1 <= len(processes) <= 2
    assert attempts(notes, 0) == len(processes)


def actors(engine: RayEngine) -> set[object]:
    return {worker.actor._actor_id for worker in engine.pool.workers}


def test_items_with_all_cores_are_done_by_workers_that_hold_as_much_and_see_no_gpu(
    engine: RayEngine, root: Path
) -> None:
    before = actors(engine)
    items = [Item(f"{i}", ray_items.devices_seen, share="cores") for i in range(3)]
    engine.run(items, root / "cores.part", "items", Silent())
    assert engine.pool.share == "cores"
    assert before
    assert actors(engine) == before
    assert set(Shards(root / "cores.part").stack("seen").tolist()) == {""}


def test_workers_with_less_than_all_cores_give_place_to_items_with_all(
    engine: RayEngine, cluster: Cluster, root: Path
) -> None:
    engine.release()
    halves = RayEngine(RayConfig(cpus_per_worker=0.5, patience=60), root)
    halves.run([Item(f"{i}", ray_items.devices_seen) for i in range(2)], root / "half.part", "items", Silent())
    before = actors(halves)
    halves.run([Item("all", ray_items.devices_seen, share="cores")], root / "whole.part", "items", Silent())
    assert before
    assert not before & actors(halves)
    halves.close()


def test_a_node_that_dies_loses_nothing_and_one_that_joins_is_used(
    engine: RayEngine, cluster: Cluster, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt is all that an item has: a node's death is none."""
    folder, notes = made(root, "nodes")
    fleeting = add_node(cluster)
    monkeypatch.setattr(engine, "config", RayConfig(patience=60, attempts=1))

    class Joining(Heard):
        def say(self, line: str) -> None:
            super().say(line)
            add_node(cluster)

    heard = Joining()
    items = [
        Item(f"{value:02d}", ray_items.waiting, {"notes": notes, "value": value}, share="cores") for value in range(6)
    ]
    original = engine.pool_of("cores").do
    nodes = set()

    def do(worker, item, folder):
        promise = original(worker, item, folder)
        nodes.add(worker.node.name)
        if worker.node.name == fleeting.node_id:
            while not (notes / f"tried-{item.arguments['value']}").exists():
                time.sleep(0.01)
            cluster.remove_node(fleeting, allow_graceful=False)
        if len(nodes) == 4:
            (notes / "go on").touch()
        return promise

    monkeypatch.setattr(engine.pool, "do", do)
    engine.run(items, folder, "items", heard)
    assert Shards(folder).stack("value").tolist() == list(range(6))
    assert len(heard.lines) == 1
    assert "death 1 of 20: its node died" in heard.lines[0]
    assert sum(attempts(notes, value) for value in range(6)) == 7


def test_every_node_answers_while_all_cores_are_held(engine: RayEngine, cluster: Cluster) -> None:
    found = on_every_node(ray_items.process)
    assert len(found) == sum(node["Alive"] for node in ray.nodes())
    assert len(set(found.values())) == len(found)
    assert os.getpid() not in found.values()


def test_what_no_node_has_is_said_at_once(cluster: Cluster, root: Path) -> None:
    engine = RayEngine(RayConfig(cpus_per_worker=64), root)
    with pytest.raises(UserError, match=r"^ray.cpus_per_worker, ray.gpus_per_worker: no node has room .* 64 cores$"):
        engine.run([Item("0", ray_items.devices_seen)], root / "nowhere.part", "items", Silent())
    engine.close()
    assert ray.is_initialized()


@pytest.mark.parametrize(
    ("nodes", "cpus", "workers", "expected"),
    [
        ([(0, 0), (1, 0), (1, 0)], 1.0, 0, True),  # a head without cores has workers of neither kind
        ([(8, 0), (8, 0)], 8.0, 0, True),
        ([(8, 0), (4, 0)], 4.0, 0, False),
        ([(8, 1), (8, 1)], 8.0, 0, False),  # those that share a node hold its GPU
        ([(1, 0)], 1.0, 1, False),  # there may be more of one kind than of the other
    ],
)
def test_workers_stay_for_items_with_all_cores_where_they_hold_them(
    monkeypatch: pytest.MonkeyPatch, nodes, cpus, workers, expected
) -> None:
    found = [Node(f"{i}", "a", float(cores), float(gpus)) for i, (cores, gpus) in enumerate(nodes)]
    monkeypatch.setattr(pool, "living_nodes", lambda: found)
    config = RayConfig(cpus_per_worker=cpus, workers=workers)
    for share, other in (("worker", "cores"), ("cores", "worker")):
        own = pool.Pool(share, config)
        assert own.serves(other) == expected
        assert own.share == (other if expected else share)
        assert own.serves(own.share)


@pytest.mark.parametrize(
    ("node", "share", "cpus", "gpus", "expected"),
    [
        ((8, 0), "worker", 2.0, 0.0, Part(2, 0, 4)),
        ((8, 2), "worker", 1.0, 1.0, Part(1, 1, 2)),
        ((8, 2), "worker", 1.0, 0.4, Part(1, 0.4, 4)),  # two on each, not five on both
        ((3, 1), "worker", 1.0, 0.1, Part(1, 0.1, 3)),
        ((96, 1), "worker", 1.0, 0.1, Part(1, 0.1, 10)),  # 1 / 0.1 is no whole number to a machine
        ((8, 0), "worker", 1.0, 1.0, Part(1, 1, 0)),
        ((8, 4), "worker", 1.0, 2.0, Part(1, 2, 2)),
        ((8, 4), "cores", 1.0, 1.0, Part(8, 0, 1)),
        ((8, 4), "machine", 1.0, 1.0, Part(8, 4, 1)),
        ((8, 0), "machine", 1.0, 0.0, Part(8, 0, 0)),
        ((0, 0), "cores", 1.0, 0.0, Part(0, 0, 0)),
    ],
)
def test_a_node_is_cut_up_for_workers(node, share, cpus, gpus, expected) -> None:
    assert parts(Node("n", "a", *node), share, cpus, gpus) == expected
