"""Leakage at size: streaming CKA beside the plain form in memory, and what the Jaccard index costs beyond its search.

    python -m benchmarks.belief [--tokens 200000] [--layers 4] [--width 512] [--coordinates 64] [--queries 500]

CPU seconds of this process, sides in turns, the median over rounds; bytes held at most beyond the input (tracemalloc,
which numpy reports to). The plain form is ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) of centred float32 matrices in numpy. `--queries 0`
asks for the neighbours of every token, `--rounds 0` for nothing but neighbours.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import numpy as np

from cluster.neighbours import knn
from eval.bootstrap import document_groups
from eval.cka import linear_cka
from eval.jaccard import JaccardKNN
from eval.leakage import PAIRS
from eval.left_out import left_out


def plain_cka(X: np.ndarray, Y: np.ndarray) -> float:
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    norms = [float(np.linalg.norm(a.T @ b)) for a, b in ((X, Y), (X, X), (Y, Y))]
    return norms[0] ** 2 / (norms[1] * norms[2])


def seconds(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def held(function: Callable[[], object]) -> float:
    """Megabytes at most."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def compared(layers: list[np.ndarray], Y: np.ndarray, rounds: int) -> None:
    groups = document_groups(np.arange(len(Y)) // 500, 20)

    described = [[X, Y, Y, Y, Y, Y] for X in layers]  # as the stage has it: truth, prediction, control, both halves
    sides: dict[str, Callable[[], object]] = {
        "plain, one pair": lambda: [plain_cka(X, Y) for X in layers],
        "linear_cka": lambda: [linear_cka(X, Y) for X in layers],
        "plain, the six pairs": lambda: [plain_cka(own[a], own[b]) for own in described for a, b in PAIRS],
        "the six pairs, and without each of 20 groups": lambda: [left_out(own, groups, PAIRS) for own in described],
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            times[name].append(seconds(sides[name]))
    print("| | CPU s | MB beyond the input |\n|---|---|---|")
    for name, function in sides.items():
        print(f"| {name} | {median(times[name]):.2f} | {held(function):.0f} |")
    gap = abs(linear_cka(layers[0], Y) - plain_cka(layers[0].astype(np.float64), Y.astype(np.float64)))
    print(f"\nlinear_cka against the plain form in float64: {gap:.1e} apart")


def neighbours(layers: list[np.ndarray], Y: np.ndarray, queries: int, k: int) -> None:
    """Every layer's neighbours, and once those of the side that all are compared with."""
    rows = np.random.default_rng(0).choice(len(Y), queries, replace=False) if queries else None
    lists: list[np.ndarray] = []

    def search() -> None:
        lists.extend(knn(side, k, queries=rows, search="exact").neighbours for side in (Y, *layers))

    searched = seconds(search)
    overlap = seconds(lambda: [JaccardKNN(k).update(own, lists[0]).result() for own in lists[1:]])
    print(
        f"\nJaccard, k {k}, {len(lists[0])} queries among {len(Y)}, {len(layers)} layers: search {searched:.2f} CPU s, "
        f"overlap {overlap:.3f} ({100 * overlap / (searched + overlap):.2f} %)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {"tokens": 200_000, "layers": 4, "width": 512, "coordinates": 64, "queries": 500, "k": 50, "rounds": 3}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    known = parser.parse_args()
    rng = np.random.default_rng(0)
    one = rng.standard_normal((known.tokens, known.width), dtype=np.float32)
    layers = [one] * known.layers  # as many times the same: nothing is kept from one to the next
    noise = rng.standard_normal((known.tokens, known.coordinates), dtype=np.float32)
    Y = layers[0][:, : known.coordinates] + noise
    if known.rounds:
        compared(layers, Y, known.rounds)
    neighbours(layers, Y, known.queries, known.k)


if __name__ == "__main__":
    main()
