"""Push and sweep beside others, in one run: seeds per CPU second, what is held, how near to the memory's own pace.

    python -m benchmarks.cluster --bar plain_push.py --keep graph.npz --peers igraph scikit-network scipy

`--bar` is a file with `acl_many(A, seeds, alpha, epsilon, deg=, lazy=)`, and `cloud.py` beside it makes the data
(`gmm`, `knn_graph`). Sides take turns, the order alternates, times are CPU seconds of this process. A peer solves for
the whole graph, to the same largest error per degree; it is given few seeds, being slow.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from benchmarks.cluster.peers import PEERS
from benchmarks.cluster.rates import gather_rate, thread_gain
from benchmarks.sides import OURS, compare
from cluster.neighbours import knn
from cluster.pagerank import default_epsilon
from cluster.sweep import by_density, sweep_prefixes
from cluster.walkgraph import WalkGraph
from cluster.walkstate import COPIED, EDGES
from cluster.workspace import Workspace

PEER_SEEDS = 2


class Setting(NamedTuple):
    alpha: float
    epsilon: float
    seeds: int


def settings(volume: float) -> list[Setting]:
    """Those of the comparison, and the published alpha with the epsilon that a search takes."""
    published = Setting(1e-3, default_epsilon(volume), 20)
    return [Setting(0.15, 1e-5, 400), Setting(0.01, 1e-5, 80), Setting(0.01, 1e-6, 16), published]


def load(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def make_graph(cloud: ModuleType, points: int, dimensions: int, kept: Path | None) -> sparse.csr_array:
    if kept is not None and kept.exists():
        return sparse.csr_array(sparse.load_npz(kept))
    vectors, _ = cloud.gmm(points, dimensions, seed=0)
    distances, neighbours, _ = knn(vectors, 45)
    graph = cloud.knn_graph(np.square(distances), neighbours.astype(np.int32))
    if kept is not None:
        sparse.save_npz(kept, graph, compressed=False)
    return sparse.csr_array(graph)


class Ours:
    """Push and sweep of one seed after another, in one workspace."""

    def __init__(self, graph: WalkGraph) -> None:
        self.graph, self.space, self.edges = graph, Workspace(graph), 0

    def __call__(self, seeds: np.ndarray, alpha: float, epsilon: float) -> None:
        for seed in seeds:
            space = self.space
            space.walk(int(seed), alpha, epsilon)
            order = space.opened[by_density(space.p, space.degree, space.reached[space.opened])]
            sweep_prefixes(space.here, self.graph.volume, order, len(space.reached), np.inf)
            self.edges += int(space.counters[EDGES] + space.counters[COPIED])


def cpu_seconds(call: Callable[[], Any]) -> float:
    before = time.process_time()
    call()
    return time.process_time() - before


def sides_of(graph: WalkGraph, matrix: sparse.csr_array, bar: ModuleType, ours: Ours) -> dict[str, Callable[..., Any]]:
    """Ours, and the bar with both of its walks: which of them is faster depends on the setting."""

    def plain(lazy: bool) -> Callable[..., Any]:
        return lambda seeds, alpha, epsilon: bar.acl_many(
            matrix, seeds, alpha=alpha, eps=epsilon, deg=graph.degree, lazy=lazy
        )

    return {OURS: ours, "plain, lazy": plain(True), "plain, never waiting": plain(False)}


def take_turns(
    sides: dict[str, Callable[..., Any]], seeds: np.ndarray, setting: Setting, repeats: int
) -> dict[str, list[float]]:
    """Seeds per CPU second of each side, by repetition."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(repeats):
        for name in list(sides) if repetition % 2 == 0 else list(sides)[::-1]:
            seconds = cpu_seconds(lambda name=name: sides[name](seeds, setting.alpha, setting.epsilon))  # type: ignore[misc]
            rates[name].append(len(seeds) / seconds)
    return rates


def report_setting(sides: dict[str, Callable[..., Any]], seeds: np.ndarray, setting: Setting, repeats: int) -> None:
    ours = sides[OURS]
    assert isinstance(ours, Ours)
    ours.edges = 0
    rates = take_turns(sides, seeds[: setting.seeds], setting, repeats)
    print(f"\nalpha {setting.alpha:g}, epsilon {setting.epsilon:.3g}, {setting.seeds} seeds, {repeats} repetitions")
    for name, spread in compare(rates).items():
        print(f"  {name:32s} {spread}" + ("" if "/" in name else " seeds per CPU second"))
    seconds = sum(setting.seeds / rate for rate in rates[OURS])
    bound = gather_rate(ours.space, seeds[: setting.seeds], setting.alpha, setting.epsilon)
    pace = ours.edges / seconds
    print(f"  edges: {pace / 1e6:.0f} million per second, {pace / bound:.2f} of a gather over the same arrays")
    print(f"  scratch: {ours.space.scratch / 2**20:.1f} MiB and 4 bytes a vertex, after the largest walk so far")


def report_peers(names: Sequence[str], matrix: sparse.csr_array, ours: Ours, seeds: np.ndarray, repeats: int) -> None:
    setting = Setting(0.15, 1e-5, 400)
    print(f"\nglobal solvers, alpha {setting.alpha:g}")
    for name in names:
        solve = PEERS[name](matrix, setting.alpha, setting.epsilon)
        ratios, rates = [], []
        for _ in range(repeats):
            theirs = PEER_SEEDS / cpu_seconds(lambda: [solve(int(seed)) for seed in seeds[:PEER_SEEDS]])  # noqa: B023
            mine = setting.seeds / cpu_seconds(lambda: ours(seeds[: setting.seeds], setting.alpha, setting.epsilon))
            ratios.append(mine / theirs)
            rates.append(theirs)
        print(f"  {name:16s} {np.median(rates):.2f} seeds per CPU second; ours is {np.median(ratios):.0f} times it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bar", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="file that keeps the graph from one run to the next")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=[], choices=sorted(PEERS))
    arguments = parser.parse_args()
    bar, cloud = load(arguments.bar), load(arguments.bar.with_name("cloud.py"))
    matrix = make_graph(cloud, arguments.points, arguments.dimensions, arguments.keep)
    graph = WalkGraph.from_matrix(matrix)
    seeds = np.random.default_rng(1).permutation(len(graph))
    ours = Ours(graph)
    sides = sides_of(graph, matrix, bar, ours)
    for side in sides.values():  # compiled before it is timed
        side(seeds[:2], 0.15, 1e-4)
    print(f"{len(graph):,} vertices, {matrix.nnz:,} edges, load {os.getloadavg()[0]:.1f}")
    for setting in settings(graph.volume):
        report_setting(sides, seeds, setting, arguments.repeats)
    report_peers(arguments.peers, matrix, Ours(graph), seeds, min(arguments.repeats, 3))
    print(f"\nthreads: {thread_gain(graph, seeds[:256], arguments.repeats)}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
