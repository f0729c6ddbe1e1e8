"""What `balmer plan` can be told. Nothing heavy is imported here: help is instant."""

from __future__ import annotations

import argparse

from scale.errors import UserError


def options() -> argparse.ArgumentParser:
    what = "What a run will take: time, memory, disk and device hours of every stage. Weights need not be there."
    parser = argparse.ArgumentParser(prog="balmer plan", add_help=False, description=what, allow_abbrev=False)
    parser.add_argument("target", metavar="RUN.yaml", help="run file or run folder")
    parser.add_argument("--model", metavar="FOLDER", help="plan for this model; a config.json is enough")
    parser.add_argument("--workers", type=int, metavar="N", help="items at a time, each on a core of its own")
    parser.add_argument("--gpus", type=int, metavar="N", help="items at a time, each on a GPU of its own")
    parser.add_argument("--cores", type=int, metavar="N", help="processor cores in all, for what no GPU does")
    parser.add_argument("--machines", type=int, default=1, metavar="N", help="machines that these cores are on")
    parser.add_argument(
        "--rates", action="append", default=[], metavar="FILE", help="rates measured elsewhere; what it lacks is "
        "taken from the next file, or measured here"
    )  # fmt: skip
    parser.add_argument("--measure", metavar="FILE", help="measure this machine, write its rates, and plan with them")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def check(given: argparse.Namespace) -> None:
    for name in ("workers", "gpus", "cores", "machines"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    if given.workers and given.gpus:
        raise UserError("--workers and --gpus are two ways to say the same; give one of them")
    if given.rates and given.measure:
        raise UserError("--measure measures this machine, --rates takes another's; give one of them")
