"""Posterior draws and susceptibilities, Balmer's and devinterp's side by side in one run.

    make EXTRAS=cpu,dev,bench
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
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.ground_truth.operations import least_seconds, necessary
from benchmarks.jobs import SHAPES, Job, few, shape_of, spread
from benchmarks.sides import Jobs, Measured, Spread, compare, fresh, repeat, seconds, sides
from scale.model.operations import Counts

#: Per shape: measured contexts, draws per chain, heads per layer (None: all), whether the unrestricted chain runs.
PLANS: dict[str, tuple[int, int, int | None, bool]] = {
    "a": (16, 4, None, True),
    "b": (8, 2, 2, True),
    "c": (8, 2, 3, True),
    "demo": (16, 4, None, True),
    "large": (16, 3, 4, False),
}
#: The job that bytes on disk are projected to.
LARGE_TOKENS, LARGE_DRAWS = 1_000_000, 400


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
    )


def throughput(jobs: Jobs, found: list[Measured]) -> dict[str, Spread]:
    """Token·component·draw per second."""
    return compare({side: [job.work / took for took in seconds(found, side)] for side, job in jobs.items()})


def phases(jobs: Jobs, found: list[Measured]) -> dict[str, dict[str, float]]:
    """Median seconds of every phase of each side."""
    return {
        side: {name: statistics.median(f[side]["seconds"][name] for f in found) for name in found[0][side]["seconds"]}
        for side in jobs
    }


def fractions(jobs: Jobs, found: list[Measured]) -> dict[str, Spread]:
    """Share of each side's seconds that the necessary products take at this machine's rates."""
    result = {}
    for side, job in jobs.items():
        least = [least_seconds(sum(necessary(job), start=Counts()), outcome["rates"]) for outcome in found]
        result[side] = Spread.of([best / took for best, took in zip(least, seconds(found, side), strict=True)])
    return result


def stepping(jobs: Jobs, steps: int, repeats: int) -> dict[str, Spread]:
    """Steps per second, each of all heads of the middle layer in 4 chains, without evaluation."""
    shape = shape_of(jobs["ours"].model)
    heads = tuple(f"l{shape.layers // 2}h{i}" for i in range(shape.heads))
    short: Measured = {"contexts": 0, "chains": 4, "draws": 1, "burn_in": steps - 1, "between": 1, "full": False}
    found = repeat({side: replace(job, components=heads, **short) for side, job in jobs.items()}, repeats)
    return compare({side: [steps / took for took in seconds(found, side)] for side in jobs})


def memory(jobs: Jobs) -> dict[str, dict[str, dict[str, float]]]:
    """Peak MiB at 10 and at 100 draws of one head of the middle layer, one process each."""
    middle = (f"l{shape_of(jobs['ours'].model).layers // 2}h0",)
    short: Measured = {"components": middle, "chains": 2, "between": 1, "burn_in": 0, "full": False}
    found = {"one forward and backward": {"": fresh("plain", replace(jobs["ours"], **short))["peak"]}}
    for side, job in jobs.items():
        found[side] = {f"{2 * n} draws": fresh(side, replace(job, **short, draws=n))["peak"] for n in (5, 50)}
    return found


def disk(jobs: Jobs, found: list[Measured]) -> dict[str, dict[str, int]]:
    """Bytes written, and what they would be per component for a million tokens at 400 draws."""
    result = {}
    for side, job in jobs.items():
        sizes = found[0][side]["bytes"]
        tokens, draws = LARGE_TOKENS / job.tokens, LARGE_DRAWS / job.total_draws
        kept = 1.0 if side == "ours" else draws  # devinterp keeps every token's loss at every draw
        large = sizes["per draw"] * draws + sizes["per token"] * tokens * kept
        result[side] = {**sizes, "per component, large": int(large / len(job.components))}
    return result


def measure(options: argparse.Namespace) -> Measured:
    job = plan(options)
    jobs = sides(job, options.fused)
    found = repeat(jobs, options.repeats)
    result: Measured = {
        "job": asdict(job),
        "machine": {"processor": processor(), "python": platform.python_version()},
        "throughput": throughput(jobs, found),
        "fraction": fractions(jobs, found),
        "seconds": phases(jobs, found),
        "bytes": disk(jobs, found),
        "rates": {kind: statistics.median(f["rates"][kind] for f in found) for kind in found[0]["rates"]},
        "repetitions": found,
    }
    print("\n".join(lines(result)), flush=True)  # what follows takes as long again
    if not options.no_stepping:
        result["steps"] = stepping(jobs, options.steps, options.repeats)
    if not options.no_memory:
        result["memory"] = memory(jobs)
    return result


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor()


def lines(result: Measured) -> list[str]:
    job = result["job"]
    unit = "CPU s" if job["device"] == "cpu" else "s"
    rows = [
        f"shape {job['model']}, {len(job['components'])} components, {job['contexts']} + {job['reference']} contexts "
        f"of {job['context_length']}, batch {job['batch']}, {job['chains']} chains x {job['draws']} draws,",
        f"{job['between']} steps between draws, burn-in {job['burn_in']}, {job['threads']} thread(s), {job['device']}",
        *block(f"token·component·draw per {unit}", result["throughput"]),
        *block("fraction of the product rate", result["fraction"]),
        *block(f"steps per {unit} of a layer's heads in 4 chains", result.get("steps", {})),
        *block(f"median {unit}", {side: amounts(took, ",.2f") for side, took in result["seconds"].items()}),
        *block("bytes on disk", {side: amounts(sizes, ",d") for side, sizes in result["bytes"].items()}),
    ]
    for side, by_draws in result.get("memory", {}).items():
        rows += block(f"peak MiB, {side}", {draws: amounts(peaks, ",.0f") for draws, peaks in by_draws.items()})
    return [*rows, f"products, 10⁹ operations per {unit}", "  " + amounts(result["rates"], ",.1f", 1e9)]


def block(title: str, values: Mapping[str, object]) -> list[str]:
    return [title, *(f"  {name:<32}{value}" for name, value in values.items())] if values else []


def amounts(values: Mapping[str, float], layout: str, unit: float = 1) -> str:
    return "  ".join(f"{name} {value / unit if unit != 1 else value:{layout}}" for name, value in values.items())


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
    parser.add_argument("--fused", action="store_true", help="devinterp also with a fused loss in place of its own")
    parser.add_argument("--no-full", action="store_true", help="leave the unrestricted chain out")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-stepping", action="store_true")
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    options = parser.parse_args()
    result = measure(options)
    print("\n".join(lines(result)))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, default=vars))


if __name__ == "__main__":
    main()
