"""Items on 1, 2 and 4 Ray workers of one core each, stage by stage; what the engine itself costs; what a worker holds.

    python -m benchmarks.ray_workers overhead FOLDER
    python -m benchmarks.ray_workers scaling FOLDER --corpus.truth_contexts 16 --corpus.heldout_contexts 16

`overhead` does equal items of about ten seconds here and on one worker, in turn; then many small ones there. `scaling`
carries the demo with the settings given through once by the local engine; then the items of every stage whose items are
given to workers are done again by workers that have loaded the model already. Four workers are four nodes of a Ray
cluster on this machine: on fewer cores than that they show what crowding costs and no more.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.cluster_utils import Cluster

from balmer.config import RunConfig
from balmer.demo import demo_arguments
from balmer.runfile import parse, resolved, settings_parser
from balmer.runner import Runner, peak_memory
from balmer.stages import stage_named
from scale.config import ModelConfig, RayConfig
from scale.engine import Engine, Item, LocalEngine, Workspace
from scale.model.language_model import load_language_model
from scale.progress import Progress, Silent, for_stream
from scale.ray.engine import RayEngine
from scale.store import describe_files

STAGES = ("taps", "draws", "chi", "upsampled")
WORKERS = (1, 2, 4)
#: Seconds of an item, and how many items, by which the engine itself is judged.
ITEM, ITEMS = 10.0, 3


class Timed:
    """An engine that adds up the time its items take, and not what a stage does besides."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.seconds, self.count = engine, 0.0, 0

    def run(self, items: Sequence[Item], folder: Path, label: str, progress: Progress) -> None:
        started = time.perf_counter()
        self.engine.run(items, folder, label, progress)
        self.seconds += time.perf_counter() - started
        self.count += len(items)

    def ask(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return self.engine.ask(function, *arguments, **named)

    def together(self, *arguments: Any, **named: Any) -> Any:
        return self.engine.together(*arguments, **named)


@contextmanager
def nodes(count: int) -> Iterator[None]:
    """A cluster of so many nodes of one core each, and this process connected to it."""
    cluster = Cluster()
    try:
        for cores in (0, *[1] * count):
            cluster.add_node(num_cpus=cores, object_store_memory=78 * 2**20, include_dashboard=False)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def warmed(engine: RayEngine, count: int, model: ModelConfig) -> float:
    """Seconds until all workers are there and have loaded the model."""
    started = time.perf_counter()
    engine.connect()
    pool = engine.pool_of("worker")
    while len(pool.idle) < count:
        pool.grow(count)
        pool.wait(0.1)
    ray.get([worker.actor.ask.remote(loaded, (model,), {}) for worker in pool.idle])
    return time.perf_counter() - started


def loaded(model: ModelConfig) -> None:
    load_language_model(model)


def of_every(engine: RayEngine, function: Callable[[], Any]) -> list[Any]:
    """Every worker's answer."""
    return ray.get([worker.actor.ask.remote(function, (), {}) for worker in engine.pool_of("worker").idle])


def make(config: RunConfig, name: str, engine: Engine, folder: Path) -> Timed:
    """The items of one stage, over the finished run; the same bytes as there."""
    stage, run, timed = stage_named(name), Path(config.folder), Timed(engine)
    place = folder / f"{name}.part"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    work = Workspace(place, {key: run / key for key in stage.inputs}, timed, Silent())
    stage.make()(work, *(getattr(config, section) for section in stage.settings))
    made, expected = describe_files(place), describe_files(run / name)
    assert made == expected, sorted(key for key in expected if made.get(key) != expected[key])
    return timed


def scaling(config: RunConfig, folder: Path) -> list[dict[str, Any]]:
    rows = []
    for count in WORKERS:
        with nodes(count):
            engine = RayEngine(RayConfig(), folder)
            row: dict[str, Any] = {"workers": count, "ready": warmed(engine, count, config.model)}
            for name in STAGES:
                before = sum(of_every(engine, time.process_time))
                timed = make(config, name, engine, folder)
                spent = sum(of_every(engine, time.process_time)) - before
                row[name] = {"items": timed.count, "seconds": timed.seconds, "core_seconds": spent}
            row["peak_mib"] = [peak // 2**20 for peak in of_every(engine, peak_memory)]
            engine.close()
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def multiply(times: int) -> Mapping[str, np.ndarray]:
    """So many products, in one thread."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(400, 400, generator=generator)
    found = left
    for _ in range(times):
        found = left @ found / 20
    return {"product": found.numpy()}


def times_for(seconds: float) -> int:
    started = time.perf_counter()
    multiply(200)
    return int(200 * seconds / (time.perf_counter() - started))


def overhead(folder: Path) -> None:
    """Equal items one after another, here and on one worker, in turn."""
    torch.set_num_threads(1)
    times = times_for(ITEM)
    with nodes(1):
        engine = RayEngine(RayConfig(), folder)
        for round_ in range(2):
            for name, where in (("local", LocalEngine()), ("ray", engine)):
                items = [Item(f"{i}", multiply, {"times": times}) for i in range(ITEMS)]
                timed = Timed(where)
                timed.run(items, folder / f"{name}-{round_}", "items", Silent())
                print(json.dumps({"engine": name, "round": round_, "per_item": timed.seconds / ITEMS}), flush=True)
        items = [Item(f"{i}", multiply, {"times": 1}) for i in range(200)]
        timed = Timed(engine)
        timed.run(items, folder / "small", "items", Silent())
        print(json.dumps({"engine": "ray", "items": 200, "per_item": timed.seconds / 200}), flush=True)
        engine.close()


def table(rows: list[dict[str, Any]]) -> str:
    """Seconds of the items of each stage (times as fast as on one worker; core seconds of all workers)."""
    lines = [f"| workers | {' | '.join(STAGES)} | peak MiB of a worker |", "|---" * (len(STAGES) + 2) + "|"]
    for row in rows:
        cells = [
            f"{row[s]['seconds']:.1f} s ({rows[0][s]['seconds'] / row[s]['seconds']:.2f}; {row[s]['core_seconds']:.1f})"
            for s in STAGES
        ]
        lines.append(f"| {row['workers']} | {' | '.join(cells)} | {max(row['peak_mib'])} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    what, folder = arguments[0], Path(arguments[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if what == "overhead":
        overhead(folder)
        return
    flags = [*demo_arguments(), "--folder", str(folder / "run"), *arguments[2:]]
    config = resolved(parse(settings_parser("ray_workers", ""), flags))
    Runner(config, for_stream(quiet=False)).run(last="upsampled")
    print(table(scaling(config, folder / "again")))


if __name__ == "__main__":  # by the name under which workers find it
    from benchmarks import ray_workers

    ray_workers.main(sys.argv[1:])
