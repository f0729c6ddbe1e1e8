"""How fast this machine does each kind of work: short probes at the shapes of a run.

Time is core seconds, of all threads together, where processors do the work; on a GPU it is seconds that pass.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from aux.model import AuxModel
from balmer.planning.extent import Extent
from balmer.planning.model_probe import model_rates
from balmer.planning.needs import aux_parameters, aux_shape
from balmer.planning.rates import DEVICE, Rates
from balmer.planning.work import FORWARD_AND_BACKWARD
from balmer.remote import open_folder
from scale.draws.gaussian import normal
from scale.progress import Progress
from scale.stopwatch import seconds_of

#: Sizes of the probes: numbers drawn, bytes written, rows and columns of a regression, points of a planted graph.
NUMBERS, WRITTEN, ROWS, COLUMNS, POINTS = 1 << 20, 1 << 25, 4096, 1024, 1 << 14
#: Measured members of a cluster whose support is tested.
SUPPORTED = 30
#: Weights of the auxiliary model that is trained for a few steps, at most.
TRAINED = 1 << 23
#: A process that says how long it takes to load what every run needs, then what training needs, and the memory of all.
LOADING = """
import time; begun = time.perf_counter()
import torch, transformers; loaded = time.perf_counter()
import lightning; print(loaded - begun, time.perf_counter() - loaded)
from balmer.planning.probes import resident; print(resident())
"""


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def drawing(device: torch.device) -> float:
    """Weights perturbed per second: a normal number for each, and a sum."""
    base = torch.zeros(NUMBERS, device=device)
    return NUMBERS / seconds_of(lambda: base + normal(NUMBERS, 0, device.type), device)


def training(extent: Extent, device: torch.device) -> float:
    """Operations per second of optimiser steps, of a model as wide as the run's or a part of it."""
    shape = aux_shape(extent)
    inputs = min(shape.inputs, 1 << 14)
    hidden = min(shape.hidden, max(64, TRAINED // inputs)) if shape.architecture != "linear" else inputs
    shape = replace(shape, inputs=inputs, hidden=hidden)
    model = AuxModel(shape).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    batch = extent.config.aux.batch_size
    given, wanted = torch.randn(batch, inputs, device=device), torch.randn(batch, shape.outputs, device=device)

    def step() -> None:
        optimizer.zero_grad()
        (model(given) - wanted).square().mean().backward()
        optimizer.step()

    with torch.enable_grad():
        return FORWARD_AND_BACKWARD * 2 * aux_parameters(shape) * batch / seconds_of(step, device)


def regression(columns: int) -> float:
    """Operations per second of sums of products in double precision."""
    values = np.random.default_rng(0).standard_normal((ROWS, min(columns, COLUMNS)))
    return 2.0 * ROWS * values.shape[1] ** 2 / seconds_of(lambda: values.T @ values, torch.device("cpu"))


def tokenizing() -> float:
    """Tokens per second, of the demo's tokenizer on Balmer's own source."""
    from tokenizers import Tokenizer

    from balmer.demo import MODEL

    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    tokens = sum(len(tokenizer.encode(text).ids) for text in texts)
    return tokens / seconds_of(lambda: [tokenizer.encode(text) for text in texts], torch.device("cpu"))


def writing(folder: Path) -> float:
    """Bytes per second into a file that is on the disk when it is closed."""
    content = os.urandom(WRITTEN)
    place = next(p for p in [folder, *folder.parents] if p.exists())
    with tempfile.TemporaryFile(dir=place) as file:
        before = time.perf_counter()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        return WRITTEN / (time.perf_counter() - before)


def resident() -> int:
    """Bytes that this process holds; where the system does not say, the most that it has held."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def loading() -> tuple[dict[str, float], int]:
    """Times per second that a process of its own loads libraries, and the memory that they take."""
    said = subprocess.run([sys.executable, "-c", LOADING], check=True, capture_output=True, text=True).stdout
    first, more, held = said.split()
    return {"start": 1 / float(first), "training start": 1 / float(more)}, int(held)


def supporting(extent: Extent) -> float:
    """Random sets drawn and judged per second, for clusters as large as those that are tested."""
    from eval.support import cluster_support

    rng, sets, tested = np.random.default_rng(0), 500, 20
    rows = min(extent.sampled_rows, 40 * SUPPORTED * tested)
    labels = np.full(rows, -1, np.int32)
    labels[: SUPPORTED * tested] = np.repeat(np.arange(tested), SUPPORTED)[:rows]
    values = rng.standard_normal((rows, extent.pcs))
    groups = rng.integers(0, max(1, rows // extent.config.leakage.cell), rows)

    def test() -> None:
        cluster_support(
            values, labels, groups=groups, directions=True, permutations=sets, exceedances=sets, min_members=2, seed=0
        )

    return sets * len(np.unique(labels[labels >= 0])) / seconds_of(test, torch.device("cpu"))


def planted(points: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Half a normal cloud, half small tight groups."""
    rng = np.random.default_rng(seed)
    wide, sizes = points // 2, rng.integers(20, 200, points)
    centres = 1.3 * rng.standard_normal((points, dimensions))
    groups = np.repeat(np.arange(points), sizes)[: points - wide]
    tight = centres[groups] + 0.35 * rng.standard_normal((points - wide, dimensions))
    return rng.permutation(np.concatenate([rng.standard_normal((wide, dimensions)), tight])).astype(np.float32)


def searching(extent: Extent) -> tuple[dict[str, float], float]:
    """Rates of the search of a planted graph, and its walks for every point."""
    from cluster.commits import search_graph
    from cluster.graph import graph_arrays
    from cluster.indexes import exact_index
    from cluster.neighbours import search_blocks
    from cluster.null import WEAK_COMMUNITY
    from cluster.pagerank import default_epsilon
    from cluster.walkgraph import WalkGraph
    from cluster.walks import Walker

    config, processor = extent.config.cluster, torch.device("cpu")
    points = max(4 * config.k, min(POINTS, extent.predicted_rows))
    vectors, rows = planted(points, extent.pcs), np.arange(points)
    index = exact_index(vectors)
    found = search_blocks(index, vectors, vectors, rows, config.k)
    compared = 2.0 * points**2 * extent.pcs
    near = compared / seconds_of(lambda: search_blocks(index, vectors, vectors, rows, config.k), clock_of(extent))

    def join() -> WalkGraph:
        return WalkGraph.from_arrays(*graph_arrays(*found, config.weights))

    graph = join()
    walker = Walker(graph, config, WEAK_COMMUNITY)
    walker.walks(rows[:64])  # compiled or read from the cache once
    before = time.process_time()
    walks = len(search_graph(graph, config, WEAK_COMMUNITY, walker).sweeps)
    took = time.process_time() - before
    reach = 1 / (default_epsilon(graph.volume) if config.epsilon is None else config.epsilon)
    rates = {"neighbours": near, "walks": walks * reach / took, "points": points / seconds_of(join, processor)}
    return rates, walks / points


def clock_of(extent: Extent) -> torch.device:
    """Whose seconds a search for neighbours takes."""
    return torch.device(extent.device)


def name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"one core of {names[0] if names else 'this processor'}"


def measured(extent: Extent, device: torch.device, wanted: Mapping[str, bool] | None, progress: Progress) -> Rates:
    """The rates of ``wanted`` kinds, or of all; what is not wanted is not probed."""
    found: dict[str, float] = {}
    walks_per_point, library_bytes = None, None

    def needed(*kinds: str) -> bool:
        return wanted is None or any(wanted.get(kind, False) for kind in kinds)

    probes: list[tuple[tuple[str, ...], Callable[[], float]]] = [
        (("perturbation",), lambda: drawing(device)),
        (("training",), lambda: training(extent, device)),
        (("regression",), lambda: regression(extent.inputs)),
        (("sets",), lambda: supporting(extent)),
        (("tokens",), tokenizing),
        (("disk",), lambda: writing(open_folder(extent.config).path)),
    ]
    with one_thread(), torch.no_grad(), progress.task("rates", len(probes) + 3) as task:
        for (kind,), probe in probes:
            if needed(kind):
                found[kind] = probe()
            task.advance()
        if needed(*DEVICE[:4]):
            found |= model_rates(extent, device)
        task.advance()
        if needed("neighbours", "walks", "points"):
            rates, walks_per_point = searching(extent)
            found |= rates
        task.advance()
        if needed("start", "training start"):
            rates, library_bytes = loading()
            found |= rates
        task.advance()
    if wanted is not None:
        found = {kind: rate for kind, rate in found.items() if wanted.get(kind, False)}
    return Rates(device.type, name_of(device), "measured", found, extent.shape, walks_per_point, library_bytes)
