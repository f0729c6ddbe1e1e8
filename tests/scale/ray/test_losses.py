"""What is held against an item: its own failures and its workers', but not that nodes die."""

from pathlib import Path

import pytest
import ray
import ray_items

from scale.config import RayConfig
from scale.engine import Item
from scale.progress import Silent
from scale.ray import losses
from scale.ray.losses import Loss
from scale.ray.pool import Node, Pool, Worker
from scale.ray.work import Work

HERE, GONE = Node("here", "10.0.0.1", 1.0, 0.0), Node("gone", "10.0.0.2", 1.0, 0.0)
TOLD, SILENT = ray.exceptions.ActorDiedError(), ray.exceptions.ActorUnavailableError("no answer", None)


@pytest.fixture(autouse=True)
def _one_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "living_nodes", lambda: [HERE])


@pytest.mark.parametrize(
    ("node", "error", "since", "expected"),
    [
        (GONE, TOLD, 0.0, True),
        (GONE, SILENT, 0.0, True),
        (HERE, TOLD, 0.0, False),
        (HERE, SILENT, losses.NOTICED - 5, None),  # the cluster may find out yet
        (HERE, SILENT, losses.NOTICED + 5, False),
    ],
)
def test_a_node_died_if_the_cluster_has_it_no_longer(
    node: Node, error: ray.exceptions.RayError, since: float, expected: bool | None
) -> None:
    loss = Loss(Worker(node, None), error)
    loss = Loss(loss.worker, loss.error, loss.since - since)
    assert loss.node_died() is expected


def test_what_is_not_known_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = [[HERE, GONE], [HERE, GONE], [HERE]]
    monkeypatch.setattr(losses, "LOOK", 0.0)
    monkeypatch.setattr(losses, "living_nodes", lambda: alive.pop(0))
    assert Loss(Worker(GONE, None), SILENT).settled()
    assert alive == []


@pytest.fixture
def work(tmp_path: Path) -> Work:
    config = RayConfig(attempts=2, node_deaths=4)
    item = Item("00007", ray_items.product, {"seed": 1})
    said: list[str] = []
    with Silent().task("items", 1) as task:
        work = Work([item], tmp_path, tmp_path / "logs", config, Pool("worker", config), said.append, task)
    work.said = said  # type: ignore[attr-defined]
    return work


def happens(work: Work, *losses_: Loss) -> None:
    """To the one item, as often as it is still waiting."""
    for loss in losses_:
        work.lost.append((work.waiting.pop(), loss))
        work.judge()


def test_nodes_that_die_leave_an_item_its_attempts_up_to_their_own_limit(work: Work) -> None:
    with_node, alone = Loss(Worker(GONE, None), SILENT), Loss(Worker(HERE, None), TOLD)
    happens(work, with_node, alone, with_node, with_node)
    assert (work.waiting[0].failures, work.waiting[0].deaths) == (1, 3)
    assert work.aside == {}
    happens(work, with_node)
    assert work.waiting == []
    assert work.aside == {"00007": "its node died"}
    assert [line.split("; ")[0] for line in work.said] == [  # type: ignore[attr-defined]
        "  00007: death 1 of 4: its node died",
        "  00007: attempt 1 of 2: its worker died",
        "  00007: death 2 of 4: its node died",
        "  00007: death 3 of 4: its node died",
        "  00007: death 4 of 4: its node died",
    ]


def test_workers_that_die_on_living_nodes_use_attempts_up(work: Work) -> None:
    alone = Loss(Worker(HERE, None), TOLD)
    happens(work, alone, alone)
    assert work.aside == {"00007": "its worker died"}
    assert work.log_of("00007").read_text(encoding="utf-8").count("its worker died") == 2


def test_an_item_waits_while_it_is_not_known(work: Work) -> None:
    happens(work, Loss(Worker(HERE, None), SILENT))
    assert work.waiting == []
    assert len(work.lost) == 1
    assert work.said == []  # type: ignore[attr-defined]
