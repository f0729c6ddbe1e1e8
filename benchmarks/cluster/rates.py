"""The pace that memory allows a walk, and what a second thread adds."""

from __future__ import annotations

import time

import numba
import numpy as np

from benchmarks.sides import Spread
from cluster.config import ClusterConfig
from cluster.walkgraph import WalkGraph
from cluster.walks import Walker
from cluster.workspace import Workspace

LEAST_SECONDS = 0.2


@numba.njit(cache=True, nogil=True)
def gather(first, last, neighbours, weights, values, vertices):  # type: ignore[no-untyped-def]
    """Sum of weight times value over the edges of some vertices, and how many edges they are."""
    total, edges = 0.0, 0
    for u in vertices:
        for edge in range(np.uintp(first[u]), np.uintp(last[u])):
            total += weights[edge] * values[np.uintp(neighbours[edge])]
        edges += last[u] - first[u]
    return total, edges


def gather_rate(space: Workspace, seeds: np.ndarray, alpha: float, epsilon: float) -> float:
    """Edges per CPU second of one read each: the vertices pushed by some walks, a value for every vertex."""
    pushed = []
    for seed in seeds:
        space.walk(int(seed), alpha, epsilon)
        pushed.append(space.reached[space.opened])
    edges, values = space.graph.edges, np.ones(len(space.graph))
    arguments = (edges.first, edges.last, edges.neighbours, edges.weights, values, np.concatenate(pushed))
    gather(*arguments)
    counted, begun = 0, time.process_time()
    while time.process_time() - begun < LEAST_SECONDS:
        counted += gather(*arguments)[1]
    return counted / (time.process_time() - begun)


def thread_gain(graph: WalkGraph, seeds: np.ndarray, repeats: int) -> str:
    """Wall time of the same walks in one thread over that in two, at the settings of a search."""
    config = ClusterConfig()
    walkers = {threads: Walker(graph, config, 0.5, threads) for threads in (1, 2)}
    for walker in walkers.values():
        walker.walks(seeds[:4])
    gains = []
    for _ in range(repeats):
        seconds = {}
        for threads, walker in walkers.items():
            begun = time.perf_counter()
            walker.walks(seeds)
            seconds[threads] = time.perf_counter() - begun
        gains.append(seconds[1] / seconds[2])
    return f"two are {Spread.of(gains)} times as fast as one"
