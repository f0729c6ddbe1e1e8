"""Nearest neighbours beside faiss, in one run: CPU seconds to prepare and search, and what share of neighbours is
found, in small groups and in the cloud around them.

    python -m benchmarks.neighbours --points 200000 --repeats 3 --queries 8192

Three kinds of vectors: half an isotropic cloud and half small tight groups on its edge, as whitened vectors are; a
plain mixture; and duplicates. Sides take turns, the order alternates. Seconds are those of preparing, once, and those
of searching some points, chosen at random, as if all had been searched.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.sides import OURS, Spread, compare
from cluster.config import Method
from cluster.faiss_library import library
from cluster.neighbours import Search, find_neighbours, prepare, search_blocks
from cluster.recall import Recall

K = 45
#: Queries on which recall is judged.
JUDGED = 500


class Data(NamedTuple):
    """Vectors, and whether each is in a small group."""

    vectors: np.ndarray
    grouped: np.ndarray


class Found(NamedTuple):
    """CPU seconds of this process for all points, neighbours of the queries, and a line on how they were found."""

    seconds: float
    neighbours: np.ndarray
    words: str


class Watch:
    """CPU seconds to prepare, and those of a share of the queries as if they were all."""

    def __init__(self, queries: np.ndarray, points: int) -> None:
        self._share, self._begun = len(queries) / points, time.process_time()
        self.prepared = 0.0

    def prepare_ends(self) -> None:
        self.prepared, self._begun = time.process_time() - self._begun, time.process_time()

    def total(self) -> float:
        return self.prepared + (time.process_time() - self._begun) / self._share


def cloud(points: int, dimensions: int, seed: int = 0) -> Data:
    """Half a standard normal, half groups of 20 to 400 points, spread 0.35, about centres of spread 1.3."""
    rng = np.random.default_rng(seed)
    wide = points // 2
    parts, filled = [rng.standard_normal((wide, dimensions), dtype=np.float32)], wide
    while filled < points:
        size = min(points - filled, int(np.exp(rng.uniform(np.log(20), np.log(400)))))
        centre = 1.3 * rng.standard_normal(dimensions)
        parts.append((centre + 0.35 * rng.standard_normal((size, dimensions))).astype(np.float32))
        filled += size
    order = rng.permutation(points)
    return Data(np.concatenate(parts)[order], (np.arange(points) >= wide)[order])


def mixture(points: int, dimensions: int, seed: int = 0) -> Data:
    """A hundred normals of one size, well apart."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((100, dimensions))
    vectors = centres[rng.integers(0, 100, points)] + rng.standard_normal((points, dimensions))
    return Data(vectors.astype(np.float32), np.zeros(points, bool))


def duplicates(points: int, dimensions: int, seed: int = 0) -> Data:
    """The cloud, a quarter of whose points are copies: ten vectors, many times each."""
    made = cloud(points, dimensions, seed)
    copied = np.random.default_rng(seed + 1).permutation(points)[: points // 4]
    made.vectors[copied] = made.vectors[copied[:10]][np.arange(len(copied)) % 10]
    return made


KINDS: dict[str, Callable[[int, int], Data]] = {"cloud": cloud, "mixture": mixture, "duplicates": duplicates}
Side = Callable[[np.ndarray, np.ndarray], Found]


def ours(method: Method, recall: float) -> Side:
    def search(vectors: np.ndarray, queries: np.ndarray) -> Found:
        watch, rows = Watch(queries, len(vectors)), np.arange(len(vectors))
        index, reached = prepare(vectors, vectors, rows, K, Search(method, recall))
        watch.prepare_ends()
        near = search_blocks(index, vectors, vectors[queries], queries, K)[1]
        words = f"states {reached.total:.3f} of all, {parts(reached)}; {watch.prepared:.1f} to prepare"
        return Found(watch.total(), near, words)

    return search


def parts(recall: Recall) -> str:
    return f"{recall.dense:.3f} and {recall.sparse:.3f} of the densest and sparsest tenth"


def faiss_side(recipe: str, probes: int = 0, factor: int = 0) -> Side:
    """An index of faiss, its parameters as given; the query itself is left out afterwards."""

    def search(vectors: np.ndarray, queries: np.ndarray) -> Found:
        faiss = library()
        watch = Watch(queries, len(vectors))
        index = faiss.index_factory(vectors.shape[1], recipe)
        index.train(vectors)
        index.add(vectors)
        if factor:
            index.k_factor = factor
        if probes:
            faiss.extract_index_ivf(index).nprobe = probes
        watch.prepare_ends()
        near = index.search(vectors[queries], K + 1)[1]
        return Found(
            watch.total(), without_itself(near, queries), f"{recipe} {probes or ''}; {watch.prepared:.1f} to prepare"
        )

    return search


def without_itself(near: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """K of the K + 1 neighbours: not the query, or not the last where duplicates pushed the query out."""
    own = near == queries[:, None]
    own[~own.any(axis=1), -1] = True
    return near[~own].reshape(len(near), -1)


def sides(kind: str, recall: float) -> dict[str, dict[str, Side]]:
    """What is held against each other: exactly, and nearly."""
    known = {
        "cloud": faiss_side("IVF512,PQ32x4fs,RFlat", 64, 10),
        "mixture": faiss_side("IVF512,Flat", 4),
        "duplicates": faiss_side("IVF512,PQ32x4fs,RFlat", 64, 10),
    }
    return {
        "every pair": {OURS: ours("exact", 1.0), "faiss Flat": faiss_side("Flat")},
        "nearly": {OURS: ours("lists", recall), "fastest known": known[kind]},
        "by codes": {OURS: ours("lists", recall), "quantised": ours("quantised", recall)},
    }


def true_distances(vectors: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Of the sample's k nearest others, in double precision, by faiss's comparison of every pair."""
    index = library().IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    near = index.search(vectors[sample], K + 10)[1]
    rows = zip(sample, near, strict=True)
    return np.array([np.sort(exactly(vectors, row, some[some != row]))[:K] for row, some in rows])


def exactly(vectors: np.ndarray, row: int, others: np.ndarray) -> np.ndarray:
    distances: np.ndarray = np.linalg.norm(vectors[others].astype(np.float64) - vectors[row], axis=1)
    return distances


def told(data: Data, found: np.ndarray, sample: np.ndarray, true: np.ndarray) -> str:
    """Recall of the first queries, judged apart from what a side states: all, grouped, the others."""
    reached = np.array([exactly(data.vectors, row, near) for row, near in zip(sample, found, strict=True)])
    recall = Recall.of(sample, true * (1 + 1e-6), np.where(found < 0, np.inf, reached))
    inside = {"groups": recall.inside(data.grouped), "others": recall.inside(~data.grouped)}
    return f"{recall.total:.3f}" + "".join(f", {n} {v:.3f}" for n, v in inside.items() if v is not None)


def report(kind: str, data: Data, options: argparse.Namespace) -> None:
    queries = np.random.default_rng(1).permutation(len(data.vectors))[: options.queries]
    sample = queries[:JUDGED]
    true = true_distances(data.vectors, sample)
    for title, contenders in sides(kind, options.recall).items():
        if title not in options.which:
            continue
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        words = {}
        for repetition in range(options.repeats):
            for name in list(contenders) if repetition % 2 == 0 else list(contenders)[::-1]:
                found = contenders[name](data.vectors, queries)
                seconds[name].append(found.seconds)
                words[name] = f"found {told(data, found.neighbours[: len(sample)], sample, true)}; {found.words}"
        print(f"\n{kind}, {title}", flush=True)
        for name, times in seconds.items():
            print(f"  {name:14s} {Spread.of(times)} CPU s, {words[name]}")
        for name, ratio in compare(seconds).items():
            if "/" in name:
                print(f"  {name:30s} {ratio}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--which", nargs="*", default=["every pair", "nearly", "by codes"])
    parser.add_argument("--queries", type=int, default=16384)
    arguments = parser.parse_args()
    library().omp_set_num_threads(1)
    warm = cloud(4000, arguments.dimensions)
    for method in ("exact", "lists"):
        find_neighbours(warm.vectors, K, Search(method, 0.9))  # compiled before it is timed
    for kind in arguments.kinds:
        data = KINDS[kind](arguments.points, arguments.dimensions)
        print(f"\n{arguments.points:,} points x {arguments.dimensions}, {kind}, load {os.getloadavg()[0]:.1f}")
        report(kind, data, arguments)


if __name__ == "__main__":
    main()
