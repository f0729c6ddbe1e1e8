"""The clusters stage step by step at one size: seconds and memory, in all and for each point.

    python -m benchmarks.growth --points 100000 --folder /tmp/growth

Vectors are half an isotropic cloud and half small tight groups (`benchmarks.neighbours.cloud`), as shards on disk; the
steps are those of the stage without its null, and what they keep is removed at the end. Memory is what the process
holds above its libraries, after a step and at most within it; memory-mapped files count as far as they are in memory.
With `--epsilon` a walk reaches as many points at any size, as by default it does not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl

from benchmarks.neighbours import cloud
from cluster.commits import Found, search_graph
from cluster.config import ClusterConfig, Method, Visited
from cluster.items import ItemWalks, write_graph
from cluster.neighbour_items import ItemNeighbours
from cluster.neighbours import Search
from cluster.null import walk_graph
from cluster.search import NO_NULL, Clusters, described
from cluster.stage import fitted, transformed, write_clusters
from cluster.walkgraph import WalkGraph
from scale.engine import LocalEngine
from scale.progress import Silent
from scale.store import shard_name, write_shard

GIBIBYTE = 2**30
SHARD_ROWS = 1 << 18


class Steps:
    """Prints a line of a table for every step."""

    def __init__(self, points: int) -> None:
        self.points, self.libraries = points, memory("VmRSS")
        print("| step | wall s | CPU s | wall µs a point | held GiB | peak GiB | peak bytes a point |")
        print("|---|---|---|---|---|---|---|", flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        forget_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        held, peak = (memory(key) - self.libraries for key in ("VmRSS", "VmHWM"))
        each = f"{1e6 * wall / self.points:.1f} | {held / GIBIBYTE:.2f} | {peak / GIBIBYTE:.2f}"
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {each} | {peak / self.points:.0f} |", flush=True)


def forget_peak() -> None:
    """Let the kernel count the highest memory anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def make_shards(folder: Path, points: int, dimensions: int) -> np.ndarray:
    """Writes the vectors; which of them are in groups."""
    data = cloud(points, dimensions)
    for number, start in enumerate(range(0, points, SHARD_ROWS)):
        write_shard(folder, shard_name(number), {"coordinates": data.vectors[start : start + SHARD_ROWS]})
    return data.grouped


def rows_table(points: int) -> pl.DataFrame:
    """The columns that a table of members takes from the rows of a run."""
    numbers = pl.int_range(points, eager=True)
    return pl.DataFrame({"row": numbers, "context": numbers // 128, "position": numbers % 128, "token": numbers % 1000,
                         "document": numbers // 256}).with_columns(split=pl.lit("upsample"))  # fmt: skip


def neighbours_and_graph(steps: Steps, folder: Path, vectors: np.ndarray, config: ClusterConfig) -> WalkGraph:
    with steps.step("neighbours"):
        found = ItemNeighbours(folder / "neighbours", LocalEngine(), Silent())(vectors, config.k, Search.of(config))
    recall = found.recall
    print(f"recall {recall.total:.3f}, densest tenth {recall.dense:.3f}, sparsest {recall.sparse:.3f}", flush=True)
    with steps.step("graph"):
        graph = walk_graph(found, config)
        write_graph(folder / "walks" / "graph", graph)
    return graph


def search(steps: Steps, folder: Path, graph: WalkGraph, config: ClusterConfig, limit: float) -> Found:
    with steps.step("push and sweep"):
        return search_graph(graph, config, limit, ItemWalks(folder / "walks", config, limit, LocalEngine()))


def write_outputs(
    steps: Steps, folder: Path, vectors: np.ndarray, graph: WalkGraph, found: Found, config: ClusterConfig, limit: float
) -> Clusters:
    with steps.step("outputs"):
        clusters = described(graph, found, config, limit, NO_NULL, None)
        write_clusters(folder / "out", clusters, rows_table(len(vectors)), vectors)
    return clusters


def run(arguments: argparse.Namespace) -> None:
    config = ClusterConfig(epsilon=arguments.epsilon, visited=arguments.visited, search=arguments.search,
                           recall=arguments.recall, max_conductance=0.5, null_seeds=0)  # fmt: skip
    folder: Path = arguments.folder
    print(f"\n{arguments.points:,} points x {arguments.dimensions}, {os.cpu_count()} threads, "
          f"epsilon {config.epsilon}, visited {config.visited}, recall {config.recall}, "
          f"load {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    steps = Steps(arguments.points)
    grouped = make_shards(folder / "upsampled", arguments.points, arguments.dimensions)
    with steps.step("whitening"):
        vectors = transformed(folder / "upsampled", fitted(folder / "upsampled", folder, config))
    graph = neighbours_and_graph(steps, folder, vectors, config)
    found = search(steps, folder, graph, config, 0.5)
    clusters = write_outputs(steps, folder, vectors, graph, found, config, 0.5)
    inside = clusters.labels >= 0
    print(f"\n{len(graph.indices):,} edges; {len(found.sweeps):,} walks; {len(clusters.table):,} clusters with "
          f"{inside.mean():.3f} of the points, {inside[grouped].mean():.3f} of those in groups and "
          f"{inside[~grouped].mean():.4f} of the cloud; disk {disk(folder) / GIBIBYTE:.1f} GiB, load "
          f"{os.getloadavg()[0]:.1f}")  # fmt: skip


def disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--epsilon", type=float, default=None)
    parser.add_argument("--visited", default=ClusterConfig.visited, choices=get_args(Visited))
    parser.add_argument("--search", default=ClusterConfig.search, choices=get_args(Method))
    parser.add_argument("--recall", type=float, default=ClusterConfig.recall)
    parser.add_argument("--folder", type=Path, required=True, help="is made, and removed at the end")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    try:
        run(arguments)
    finally:
        shutil.rmtree(arguments.folder)


if __name__ == "__main__":
    main()
