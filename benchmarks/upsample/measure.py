"""Upsampling beside forward passes of the same model, its memory by the number of shards, and a whole corpus.

    python -m benchmarks.upsample [--model demo] [--batch 16] [--expansion 16] [--repeats 15] [--bfloat16] [--run RUN]
    python -m benchmarks.upsample --memory --path TEXTS
    python -m benchmarks.upsample --tokens 10000000 --path TEXTS [--workers 2]

The passes take turns on one batch of random ids: to the last tap with nothing read, whole with logits, and upsampling
from ids to coordinates in memory. What the auxiliary model's products alone take gives the bound that nothing built on
them exceeds. ``--run`` takes the auxiliary model of a finished run; with ``--bfloat16`` it says how far that moves its
predictions.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aux.config import AuxConfig
from aux.model import AuxModel, AuxShape
from aux.predictor import Predictor
from aux.upsample import predict
from benchmarks.jobs import Clock, Job, folder_of, load_model, shape_of
from benchmarks.sides import Spread
from benchmarks.upsample.run import PCS, Text, in_its_own_process
from scale.config import ModelConfig, TapsConfig
from scale.model.batches import Budget
from scale.model.forward import residual_stream
from scale.model.language_model import LanguageModel
from scale.model.operations import Shape, block_forward
from scale.taps.responses import Direction
from scale.taps.stage import Taps, load_directions, parts_of, read_taps, tap_layers

#: Shards whose peaks are compared, and contexts in each.
SHARDS, CONTEXTS_PER_SHARD = (1, 50), 64
PASSES = ("to the last tap", "whole, with logits", "upsampling")


@dataclass(frozen=True)
class Case:
    """A language model, an auxiliary model that reads its taps, and one batch."""

    shape: Shape
    language_model: LanguageModel
    predictor: Predictor
    taps: Taps
    directions: Sequence[Direction]
    ids: torch.Tensor

    @property
    def rows(self) -> int:
        return int(self.ids.shape[0]) * (int(self.ids.shape[1]) - 1)


def case_of(options: argparse.Namespace) -> Case:
    job = Job(options.model, (), 0, 0, device=options.device)
    shape, language_model = shape_of(job.model), LanguageModel.wrap(load_model(job))
    taps, directions = Taps(tuple(tap_layers(shape.layers, TapsConfig().count)), options.gradients), list[Direction]()
    inputs = taps.columns(shape.width)
    auxiliary = AuxModel(
        AuxShape(inputs, AuxConfig(expansion=options.expansion).hidden_width(shape.width, inputs), PCS)
    )
    if options.run:
        taps, auxiliary = read_taps(options.run / "taps"), AuxModel.load(options.run / "aux")
        config = ModelConfig(path=folder_of(options.model), device=options.device)
        directions = load_directions(options.run / "taps", config, taps.responses)
    ids = np.random.default_rng(0).integers(0, shape.vocabulary, (options.batch, options.length))
    device = torch.device(options.device)
    predictor = Predictor(auxiliary, device)
    return Case(shape, language_model, predictor, taps, directions, torch.from_numpy(ids).to(device))


def products(case: Case) -> Callable[[], torch.Tensor]:
    """The auxiliary model's two matrix products and nothing else."""
    shape = case.predictor.model.shape
    left = torch.randn(case.rows, shape.inputs, device=case.ids.device)
    first = torch.randn(shape.hidden, shape.inputs, device=case.ids.device)
    second = torch.randn(shape.outputs, shape.hidden, device=case.ids.device)
    hidden = torch.empty(case.rows, shape.hidden, device=case.ids.device)
    return lambda: torch.mm(torch.mm(left, first.T, out=hidden), second.T)


def sides(case: Case, bfloat16: bool) -> dict[str, Callable[[], Any]]:
    tokens, model = case.ids.cpu().numpy().astype(np.int32), case.language_model
    budget = Budget(case.ids.numel())
    parts = parts_of(model, case.ids, case.taps, case.directions, budget)
    upsampling = partial(predict, model, case.predictor, tokens, case.taps, case.directions, budget)
    found: dict[str, Callable[[], Any]] = {
        PASSES[0]: partial(residual_stream, model, case.ids, [max(case.taps.layers)]),
        PASSES[1]: lambda: model.model(input_ids=case.ids, use_cache=False).logits,
        PASSES[2]: upsampling,
        "auxiliary model": partial(case.predictor, parts),
        "its products": products(case),
    }
    return found | ({"upsampling, bfloat16": partial(upsampling, bfloat16=True)} if bfloat16 else {})


@torch.no_grad()
def measure(case: Case, repeats: int, bfloat16: bool) -> dict[str, list[float]]:
    """Seconds (of the CPU on a CPU) of every side, repetition by repetition."""
    clock, calls = Clock(case.ids.device.type), sides(case, bfloat16)
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            before = clock.now()
            call()
            found[name].append(clock.now() - before)
    return found


def by_operations(case: Case) -> float:
    """What `upsampling / to the last tap` would be if every product ran at the same rate and nothing else took time."""
    blocks = max(case.taps.layers) * sum(block_forward(case.shape, int(case.ids.shape[1])).values())
    shape = case.predictor.model.shape
    return blocks / (blocks + 2 * shape.hidden * (shape.inputs + shape.outputs))


def ratios(seconds: dict[str, list[float]]) -> dict[str, Spread]:
    bare, whole, ours = (np.array(seconds[name]) for name in PASSES)
    bound = np.array(seconds["its products"])
    return {
        "upsampling / to the last tap": Spread.of((bare / ours).tolist()),
        "  at most, by its products": Spread.of((bare / (bare + bound)).tolist()),
        "upsampling / whole": Spread.of((whole / ours).tolist()),
        "  at most": Spread.of((whole / (bare + bound)).tolist()),
    }


@torch.no_grad()
def moved(case: Case) -> np.ndarray:
    """Correlation per PC of predictions in bfloat16 with those in float32."""
    call = sides(case, True)
    plain, rounded = call[PASSES[2]](), call["upsampling, bfloat16"]()
    return np.array([np.corrcoef(plain[:, i], rounded[:, i])[0, 1] for i in range(plain.shape[1])])


def print_rates(options: argparse.Namespace) -> None:
    case = case_of(options)
    seconds = measure(case, options.repeats, options.bfloat16)
    shape = case.predictor.model.shape
    print(
        f"{options.model}, {options.batch} contexts of {options.length}, taps {list(case.taps.layers)} of "
        f"{case.shape.layers} blocks, auxiliary model {shape.inputs} x {shape.hidden} x {shape.outputs}, "
        f"{options.threads} thread(s)"
    )
    for name, each in seconds.items():
        rates = Spread.of([case.ids.numel() / one for one in each])
        print(f"  {name:<34}{rates.median:>10,.0f} ({rates.low:,.0f} to {rates.high:,.0f}) tokens/s")
    for name, spread in ratios(seconds).items():
        print(f"  {name:<34}{spread}")
    print(f"  {'to the last tap, by operations':<34}{by_operations(case):.2f}")
    if options.bfloat16:
        agreement = moved(case)
        print(f"  bfloat16 with float32, correlation {agreement.mean():.5f}, least {agreement.min():.5f}")


def text_of(options: argparse.Namespace, folder: str, **changes: Any) -> Text:
    settings: Any = {"kind": options.kind, "path": options.path, "pattern": options.pattern, "workers": options.workers}
    return Text(folder, **{**settings, "model": options.model, "device": options.device, **changes})


def print_memory(options: argparse.Namespace) -> None:
    """Peak MiB of each stage by the number of shards, one process each."""
    for shards in SHARDS:
        sizes = {"tokens": shards * CONTEXTS_PER_SHARD * 128, "contexts_per_shard": CONTEXTS_PER_SHARD}
        with tempfile.TemporaryDirectory() as folder:
            peaks = []
            for stage in ("corpus", "upsampled"):
                found = in_its_own_process(text_of(options, folder, **sizes, stages=[stage]))
                peaks.append(f"{stage} {found['peak']['in all']:,.0f} MiB")
        print(f"  {shards:>3} shards  {found['rows']:>9,} rows  peak of {', of '.join(peaks)}", flush=True)


def print_corpus(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = in_its_own_process(text_of(options, folder, tokens=options.tokens))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))
    print_run(found)


def print_run(found: dict[str, Any]) -> None:
    """Time and memory of one run by tenths of its shards."""
    curve, rows = found["curve"], found["rows"]
    for name, wall in found["seconds"].items():
        print(f"  {name:<10}{wall:>8,.0f} s, {found['cpu_seconds'][name]:,.0f} CPU s")
    peak = found["peak"]
    print(f"  {rows:,} rows, peak {peak['in all']:,.0f} MiB ({peak['after corpus']:,.0f} by the end of corpus)")
    for tenth in range(1, 11):
        wall, cpu, held = curve[round(len(curve) * tenth / 10) - 1]
        print(f"  {tenth / 10:>4.0%} of the shards  {wall:>8,.0f} s  {cpu:>8,.0f} CPU s  {held:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Upsampling beside forward passes, by shards, and over a whole corpus."
    )
    parser.add_argument(
        "--model", default="demo", help="a shape of benchmarks.jobs, demo, or a folder with a GPT-NeoX model"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--expansion", type=int, default=AuxConfig().expansion)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bfloat16", action="store_true", help="also in bfloat16")
    parser.add_argument("--gradients", action="store_true", help="gradients are read as well as activations")
    parser.add_argument("--run", type=Path, help="a finished run, whose taps and auxiliary model are taken")
    parser.add_argument("--memory", action="store_true", help=f"peak memory at {SHARDS[0]} and {SHARDS[1]} shards")
    parser.add_argument("--tokens", type=int, help="a corpus of so many tokens, from text to coordinates")
    parser.add_argument("--kind", default="text")
    parser.add_argument("--path", default="", help="the text of --memory and --tokens")
    parser.add_argument("--pattern", default="**/*.py")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write what --tokens found as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        print_memory(options)
    elif options.tokens:
        print_corpus(options)
    else:
        print_rates(options)


if __name__ == "__main__":
    main()
