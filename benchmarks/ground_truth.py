"""Posterior draws and susceptibilities, Balmer's and devinterp's side by side in one run.

    pip install '.[bench]' -c constraints.txt
    python -m benchmarks.ground_truth --shape a [--repeats 3] [--threads 1] [--device cpu] [--out result.json]

Same model, tokens, components, chains, draws, steps and threads on both sides, sampling included. The rates count the
measured tokens of the restricted chains; the unrestricted chain, one for any number of components, is shown apart.
Memory is taken in fresh processes, at 10 and at 100 draws, beside one forward and backward pass of one batch.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.jobs import SHAPES, Job, few, shape_of, spread
from benchmarks.operations import least_seconds, necessary
from benchmarks.worker import Worker

#: Per shape: measured contexts, draws per chain, heads per layer (None: all), whether the unrestricted chain runs.
PLANS: dict[str, tuple[int, int, int | None, bool]] = {
    "a": (16, 4, None, True),
    "b": (8, 2, 2, True),
    "c": (8, 2, 3, True),
    "demo": (16, 4, None, True),
    "large": (16, 3, 4, False),
}
SIDES = ("ours", "devinterp")
Measured = dict[str, Any]


def plan(options: argparse.Namespace) -> Job:
    contexts, draws, heads, full = PLANS.get(options.shape, (16, 4, None, True))
    return Job(
        model=options.shape,
        components=few(options.shape) if options.quick else spread(options.shape, options.heads or heads),
        contexts=options.contexts or (8 if options.quick else contexts),
        reference=options.batch,
        batch=options.batch,
        draws=options.draws or (2 if options.quick else draws),
        burn_in=options.burn_in,
        between=options.between,
        full=full and not options.no_full,
        device=options.device,
        threads=options.threads,
        precision=options.precision,
        peer_loss=options.peer_loss,
    )


def pairs(job: Job, repeats: int) -> list[Measured]:
    """Both sides in turn, each in a process that lives on and has warmed up, and the rates of products beside them."""
    warm = replace(job, components=job.components[-1:], contexts=job.batch, draws=2, burn_in=0, between=1, full=False)
    found = []
    with (
        Worker("ours", job.threads) as ours,
        Worker("devinterp", job.threads) as peer,
        Worker("rates", job.threads) as rates,
    ):
        for worker in (ours, peer):
            worker.do(warm)
        for _ in range(repeats):
            found.append({"ours": ours.do(job), "devinterp": peer.do(job), "rates": rates.do(job)["seconds"]})
    return found


@dataclass(frozen=True)
class Spread:
    """Median and range of repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:,.2f} ({self.low:,.2f} to {self.high:,.2f})"


def throughput(job: Job, found: list[Measured]) -> dict[str, Spread]:
    """Token·component·draw per second of each side, and the paired ratio."""
    rates = {side: [job.work / pair[side]["seconds"]["restricted"] for pair in found] for side in SIDES}
    ratios = [ours / peer for ours, peer in zip(*rates.values(), strict=True)]
    return {**{side: Spread.of(values) for side, values in rates.items()}, "ratio": Spread.of(ratios)}


def phases(found: list[Measured]) -> dict[str, dict[str, float]]:
    """Median seconds of every phase of each side."""
    names = {side: sorted(set.intersection(*(set(pair[side]["seconds"]) for pair in found))) for side in SIDES}
    return {
        side: {name: statistics.median(pair[side]["seconds"][name] for pair in found) for name in names[side]}
        for side in SIDES
    }


def fractions(job: Job, found: list[Measured]) -> dict[str, Spread]:
    """Share of each side's seconds that the necessary products take at this machine's rates."""
    sampling, probing = necessary(job)
    least = [least_seconds(sampling + probing, pair["rates"]) for pair in found]
    return {
        side: Spread.of([best / pair[side]["seconds"]["restricted"] for best, pair in zip(least, found, strict=True)])
        for side in SIDES
    }


def stepping(job: Job, steps: int, repeats: int) -> dict[str, Spread]:
    """Steps per second, each of all heads of the middle layer in 4 chains, without evaluation."""
    shape = shape_of(job.model)
    heads = tuple(f"l{shape.layers // 2}h{i}" for i in range(shape.heads))
    wanted = replace(job, components=heads, contexts=0, chains=4, draws=1, burn_in=steps - 1, between=1, full=False)
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    with Worker("ours", job.threads) as ours, Worker("devinterp", job.threads) as peer:
        for _ in range(repeats):
            for side, worker in zip(SIDES, (ours, peer), strict=True):
                rates[side].append(steps / worker.do(wanted)["seconds"]["restricted"])
    ratios = [ours / peer for ours, peer in zip(*rates.values(), strict=True)]
    return {**{side: Spread.of(values) for side, values in rates.items()}, "ratio": Spread.of(ratios)}


def fresh(side: str, job: Job) -> Measured:
    with Worker(side, job.threads) as worker:
        return worker.do(job)


def memory(job: Job) -> dict[str, dict[str, dict[str, float]]]:
    """Peak MiB at 10 and at 100 draws of one head of the middle layer, one process each."""
    one = replace(
        job, components=(f"l{shape_of(job.model).layers // 2}h0",), chains=2, between=1, burn_in=0, full=False
    )
    found = {"one forward and backward": {"": fresh("plain", one)["peak"]}}
    for side in SIDES:
        found[side] = {f"{2 * draws} draws": fresh(side, replace(one, draws=draws))["peak"] for draws in (5, 50)}
    return found


#: The job that bytes on disk are projected to.
LARGE_TOKENS, LARGE_DRAWS = 1_000_000, 400


def disk(job: Job, found: list[Measured]) -> dict[str, dict[str, int]]:
    """Bytes written, and what they would be per component for a million tokens at 400 draws."""
    tokens, draws = LARGE_TOKENS / job.tokens, LARGE_DRAWS / job.total_draws
    result = {}
    for side, kept in (("ours", 1.0), ("devinterp", draws)):  # devinterp keeps every token's loss at every draw
        sizes = found[0][side]["bytes"]
        large = sizes["per draw"] * draws + sizes["per token"] * tokens * kept
        result[side] = {**sizes, "per component, large": int(large / len(job.components))}
    return result


def measure(options: argparse.Namespace) -> Measured:
    job = plan(options)
    found = pairs(job, options.repeats)
    result: Measured = {
        "job": asdict(job),
        "machine": {"processor": processor(), "python": platform.python_version()},
        "throughput": throughput(job, found),
        "seconds": phases(found),
        "fraction of the product rate": fractions(job, found),
        "product rates": {k: statistics.median(pair["rates"][k] for pair in found) for k in found[0]["rates"]},
        "bytes": disk(job, found),
        "repetitions": found,
    }
    if not options.no_stepping:
        result["steps"] = stepping(job, options.steps, options.repeats)
    if not options.no_memory:
        result["memory"] = memory(job)
    return result


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor()


def lines(result: Measured, device: str) -> list[str]:
    second = "CPU s" if device == "cpu" else "s"
    job = result["job"]
    rows = [
        f"shape {job['model']}, {len(job['components'])} components, {job['contexts']} + {job['reference']} contexts "
        f"of {job['context_length']}, {job['chains']} chains x {job['draws']} draws, {job['between']} steps between "
        f"draws, batch {job['batch']}, {job['threads']} thread(s), {device}, devinterp's loss: {job['peer_loss']}",
        f"{f'token·component·draw per {second}':<36}" + table(result["throughput"]),
        f"{'fraction of the product rate':<36}" + table(result["fraction of the product rate"]),
    ]
    if "steps" in result:
        rows.append(f"{f'steps per {second}, a layer, 4 chains':<36}" + table(result["steps"]))
    for side, by_phase in result["seconds"].items():
        rows.append(f"{f'seconds, {side}':<36}" + "  ".join(f"{name} {took:.2f}" for name, took in by_phase.items()))
    for side, sizes in result["bytes"].items():
        rows.append(f"{f'bytes, {side}':<36}" + "  ".join(f"{name} {size:,}" for name, size in sizes.items()))
    for side, by_draws in result.get("memory", {}).items():
        for draws, peaks in by_draws.items():
            rows.append(f"{f'MiB, {side} {draws}':<36}" + "  ".join(f"{n} {size:,.0f}" for n, size in peaks.items()))
    rates = "  ".join(f"{kind} {rate / 1e9:,.1f}" for kind, rate in result["product rates"].items())
    return [*rows, f"{f'10⁹ operations per {second}':<36}" + rates]


def table(spreads: dict[str, Spread]) -> str:
    return "   ".join(f"{name} {spread}" for name, spread in spreads.items())


def main() -> None:
    parser = argparse.ArgumentParser(description="Balmer's and devinterp's ground truth side by side.")
    parser.add_argument("--shape", default="a", help=f"{', '.join(SHAPES)}, demo, or a folder with a GPT-NeoX model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="fewer components, contexts and draws")
    parser.add_argument("--contexts", type=int, help="contexts measured, a multiple of --batch")
    parser.add_argument("--draws", type=int, help="per chain")
    parser.add_argument("--heads", type=int, help="heads of each of the three layers")
    parser.add_argument("--burn-in", type=int, default=1)
    parser.add_argument("--between", type=int, default=1, help="steps between draws")
    parser.add_argument("--steps", type=int, default=4, help="steps of the chains whose steps per second are taken")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="highest", choices=("highest", "high"), help="high: TF32 on a GPU")
    parser.add_argument("--peer-loss", default="default", choices=("default", "fused"))
    parser.add_argument("--no-full", action="store_true", help="leave the unrestricted chain out")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-stepping", action="store_true")
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    options = parser.parse_args()
    result = measure(options)
    print("\n".join(lines(result, options.device)))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, default=vars))


if __name__ == "__main__":
    main()
