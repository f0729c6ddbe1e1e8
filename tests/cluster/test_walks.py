"""Committing walks: order, overlaps, and independence of threads and rounds."""

from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from cluster.commits import Commits, Found, search_graph
from cluster.config import ClusterConfig, Visited
from cluster.walkgraph import WalkGraph
from cluster.walks import Walk, Walker

BLOCKS, BLOCK = 13, 30


@pytest.fixture(scope="module")
def graph() -> WalkGraph:
    """Blocks of 30 vertices, dense inside and sparsely joined."""
    rng = np.random.default_rng(0)
    total = BLOCKS * BLOCK
    chance = np.where(np.kron(np.eye(BLOCKS), np.ones((BLOCK, BLOCK))) > 0, 0.7, 0.01)
    half = np.triu(rng.random((total, total)) < chance, k=1).astype(np.float64)
    return WalkGraph.from_matrix(sparse.csr_array(half + half.T))


def search(
    graph: WalkGraph, config: ClusterConfig, max_conductance: float, threads: int = 1, most_walks: int | None = None
) -> Found:
    walker = Walker(graph, config, max_conductance, threads)
    return search_graph(graph, config, max_conductance, walker, most_walks=most_walks)


def one_at_a_time(graph: WalkGraph, config: ClusterConfig, max_conductance: float) -> Found:
    """The search without rounds: the oracle for the search with them."""
    walker = Walker(graph, config, max_conductance, threads=1)
    commits = Commits(graph, config.min_size, max_conductance)
    for seed in np.random.default_rng(config.seed).permutation(len(graph)):
        if not commits.visited[seed]:
            commits.commit(walker.walks(np.array([seed]))[0])
    return commits.result()


@pytest.mark.parametrize("visited", ["support", "best-prefix", "core", "seed"])
def test_rounds_and_threads_do_not_change_the_outcome(graph: WalkGraph, visited: str) -> None:
    config = ClusterConfig(visited=visited, epsilon=5e-4)  # type: ignore[arg-type]
    expected = one_at_a_time(graph, config, 0.5)
    assert len(expected.table) >= 2
    for threads, round_size in ((1, 1), (1, 64), (2, 7), (3, 1000)):
        found = search(graph, replace(config, round_size=round_size), 0.5, threads=threads)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.table.equals(expected.table)
        assert found.sweeps.equals(expected.sweeps)
        assert found.unvisited == 0


def test_blocks_are_found_and_the_table_describes_them(graph: WalkGraph) -> None:
    found = search(graph, ClusterConfig(epsilon=5e-4), 0.5)
    for block in range(BLOCKS):
        own = found.labels[block * BLOCK : (block + 1) * BLOCK]
        label = np.bincount(own[own >= 0], minlength=1).argmax()
        assert np.sum(own == label) / (BLOCK + np.sum(found.labels == label) - np.sum(own == label)) >= 0.8
    for cluster, size, conductance, volume, seed_row in found.table.iter_rows():
        members = np.flatnonzero(found.labels == cluster)
        assert size == len(members) >= 20
        assert volume == pytest.approx(graph.degree[members].sum())
        assert conductance == pytest.approx(conductance_of(graph, members))
        assert seed_row in found.sweeps.filter(found.sweeps["accepted"])["seed_row"]


def conductance_of(graph: WalkGraph, members: npt.NDArray[np.integer]) -> float:
    matrix = sparse.csr_array((graph.weights, graph.indices, graph.indptr), shape=(len(graph), len(graph)))
    inside = np.zeros(len(graph))
    inside[members] = 1
    volume = graph.degree @ inside
    return float((volume - inside @ (matrix @ inside)) / min(volume, graph.volume - volume))


def walk(graph: WalkGraph, seed: int, members: list[int], ruled_out: list[int]) -> Walk:
    chosen, others = np.array(members, np.int32), np.array(ruled_out, np.int32)
    volume = float(graph.degree[chosen].sum())
    pagerank = np.linspace(0.1, 0.2, len(members))
    return Walk(seed, len(members), 0.1, chosen, conductance_of(graph, chosen), volume, pagerank, others)


def test_a_vertex_belongs_to_the_first_cluster_that_takes_it(graph: WalkGraph) -> None:
    commits = Commits(graph, 20, 0.9)
    commits.commit(walk(graph, 0, list(range(30)), list(range(50))))
    commits.commit(walk(graph, 5, list(range(30)), list(range(50))))
    commits.commit(walk(graph, 40, list(range(60)), list(range(100))))
    commits.commit(walk(graph, 65, list(range(45, 75)), list(range(80))))
    found = commits.result()
    assert found.table["seed_row"].to_list() == [0, 40]
    assert found.table["size"].to_list() == [30, 30]
    assert (found.labels[:30] == 0).all()
    assert (found.labels[30:60] == 1).all()
    assert (found.labels[60:] == -1).all()
    assert found.table["conductance"][1] == pytest.approx(conductance_of(graph, np.arange(30, 60)))
    # the seed at 5 was visited; the one at 65 was walked, and too little of it was left
    assert found.sweeps["seed_row"].to_list() == [0, 40, 65]
    assert found.sweeps["accepted"].to_list() == [True, True, False]


def test_what_a_rejected_walk_rules_out(graph: WalkGraph) -> None:
    ruled_out = {}
    for rule in get_args(Visited):
        walker = Walker(graph, ClusterConfig(visited=rule, epsilon=5e-4), 0.5, threads=1)
        ruled_out[rule] = set(walker.walks(np.array([3]))[0].ruled_out.tolist())
    own_block = set(range(BLOCK))
    assert ruled_out["seed"] == set()
    assert len(ruled_out["core"]) == 20
    assert ruled_out["core"] < ruled_out["best-prefix"] < ruled_out["support"]
    assert ruled_out["core"] < own_block
    assert len(ruled_out["best-prefix"] ^ own_block) <= 2
    commits = Commits(graph, 20, 0.001)
    commits.commit(walk(graph, 3, list(range(25)), list(range(40))))
    np.testing.assert_array_equal(np.flatnonzero(commits.visited), np.arange(40))
    assert (commits.labels == -1).all()


def test_walking_again_from_inside_never_raises_conductance(graph: WalkGraph) -> None:
    seeds = np.arange(len(graph))
    for rejected in (0.0, 0.5):
        plain = Walker(graph, ClusterConfig(refine=False, epsilon=5e-4), rejected).walks(seeds)
        refined = Walker(graph, ClusterConfig(refine=True, epsilon=5e-4), rejected).walks(seeds)
        before = np.array([conductance_of(graph, walk.members) for walk in plain])
        after = np.array([conductance_of(graph, walk.members) for walk in refined])
        np.testing.assert_allclose([walk.proposed for walk in refined], after, atol=1e-12)
        volumes = [graph.degree[walk.members].sum() for walk in refined]
        np.testing.assert_allclose([walk.volume for walk in refined], volumes)
        assert [walk.conductance for walk in refined] == [walk.conductance for walk in plain]
        assert (after <= before + 1e-12).all()
        assert (after < before - 1e-6).any() == (rejected == 0.5)


def test_an_accepted_walk_rules_out_its_cluster_only(graph: WalkGraph) -> None:
    commits = Commits(graph, 20, 0.9)
    commits.commit(walk(graph, 3, list(range(30)), list(range(200))))
    np.testing.assert_array_equal(np.flatnonzero(commits.visited), np.arange(30))


def test_a_search_can_stop_after_some_walks(graph: WalkGraph) -> None:
    config = ClusterConfig(visited="seed")
    found = search(graph, config, 1e-9, most_walks=10)
    assert len(found.sweeps) == 10
    assert found.unvisited == len(graph) - 10
    assert found.sweeps.equals(search(graph, config, 1e-9).sweeps.head(10))
