"""Stages corpus and upsampled from text to coordinates, in a process of their own, and what they took on the way.

    python -m benchmarks.upsample.run '{"folder": "/tmp/bench", "kind": "text", "path": "texts", "tokens": 1000000}'

Prints one line of JSON. The auxiliary model has the demo's shape and weights from a seed: time and memory do not depend
on what it has learnt.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.jobs import folder_of, peak_resident, resident

PCS = 24


@dataclass(frozen=True)
class Text:
    """Which text, how much of it, and how it is cut."""

    folder: str
    kind: str
    path: str
    tokens: int
    pattern: str = ""
    model: str = "demo"
    context_length: int = 128
    contexts_per_document: int = 1_000_000
    contexts_per_shard: int = 256
    expansion: int = 16
    workers: int = 1
    device: str = "cpu"
    precision: str = "auto"
    stages: tuple[str, ...] = ("corpus", "upsampled")

    @property
    def contexts(self) -> int:
        return self.tokens // self.context_length


@dataclass
class Curve:
    """Seconds, CPU seconds and MiB held, each time a shard was finished: a progress that keeps notes."""

    started: float = field(default_factory=time.perf_counter)
    spent: float = field(default_factory=time.process_time)
    points: list[tuple[float, float, float]] = field(default_factory=list)

    def restart(self) -> None:
        self.started, self.spent = time.perf_counter(), time.process_time()

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def advance(self, steps: int = 1) -> None:
        self.points.append((time.perf_counter() - self.started, time.process_time() - self.spent, resident()))
        if len(self.points) % 50 == 0:
            self.say(f"  {len(self.points)} shards, {self.points[-1][0]:.0f} s, {self.points[-1][2]:.0f} MiB")

    def fail(self, steps: int = 1) -> None:
        self.say(f"  {steps} shards set aside")

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Curve]:
        yield self


def stand_in(folder: Path, text: Text) -> dict[str, Path]:
    """The folders of taps and of the auxiliary model, as their stages leave them, without what they are made from."""
    from aux.config import AuxConfig
    from aux.model import AuxModel, AuxShape
    from benchmarks.jobs import shape_of
    from scale.config import TapsConfig
    from scale.store import Manifest, write_manifest
    from scale.taps.stage import Taps, tap_layers

    shape, count = shape_of(text.model), TapsConfig().count
    taps, aux = folder / "taps", folder / "aux"
    for place in (taps, aux):
        place.mkdir(parents=True, exist_ok=True)
    read = Taps(tuple(tap_layers(shape.layers, count)))
    write_manifest(taps, Manifest("taps", {}, {}, {**asdict(read), "width": shape.width}))
    inputs = count * shape.width
    hidden = AuxConfig(expansion=text.expansion).hidden_width(shape.width, inputs)
    AuxModel(AuxShape(inputs, hidden, PCS)).save(aux)
    return {"taps": taps, "aux": aux}


def carry_out(text: Text) -> dict[str, Any]:
    import torch

    from aux import upsample
    from aux.config import UpsampleConfig
    from scale.config import CorpusConfig, ModelConfig
    from scale.corpus import stage as corpus
    from scale.engine import LocalEngine, Workspace

    torch.set_num_threads(1)
    folder, model = Path(text.folder), ModelConfig(path=folder_of(text.model), device=text.device)
    inputs, curve, libraries = stand_in(folder, text), Curve(), resident()
    cut: Any = {"kind": text.kind, "path": text.path, "pattern": text.pattern, "context_length": text.context_length}
    # Everything that is predicted, less the least that the other two splits may be asked for.
    sizes: Any = {"truth_contexts": 1, "heldout_contexts": 1, "upsample_contexts": text.contexts}
    limits: Any = {"short_documents": "drop", "contexts_per_document": text.contexts_per_document}
    seconds, cpu = {}, {}

    def stage(name: str, make: Any, *settings: Any) -> dict[str, Any]:
        place = folder / name
        place.mkdir(exist_ok=True)
        started, spent = time.perf_counter(), time.process_time()
        facts: dict[str, Any] = make(Workspace(place, inputs, LocalEngine(text.workers), curve), *settings)
        seconds[name], cpu[name] = time.perf_counter() - started, time.process_time() - spent
        inputs[name] = place
        return facts

    facts: dict[str, Any] = {}
    if "corpus" in text.stages:
        facts |= stage("corpus", corpus.make, model, CorpusConfig(**cut, **limits, **sizes))
    peaks = {"libraries": libraries, "after corpus": peak_resident()}
    inputs["corpus"] = folder / "corpus"
    if "upsampled" in text.stages:
        curve.restart()
        config: Any = {"contexts_per_shard": text.contexts_per_shard, "precision": text.precision}
        facts |= stage("upsampled", upsample.make, model, UpsampleConfig(**config))
    return {
        "text": asdict(text),
        "rows": facts.get("rows", 0),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak": {**peaks, "in all": peak_resident()},
        "curve": curve.points,
    }


def in_its_own_process(text: Text) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "benchmarks.upsample.run", json.dumps(asdict(text))]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(carry_out(Text(**json.loads(sys.argv[1])))))
