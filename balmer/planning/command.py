"""`balmer plan`: rates from files or from short probes, and what a run will take with them."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from balmer.config import RunConfig
from balmer.planning.extent import extent_of
from balmer.planning.options import check
from balmer.planning.page import print_plan
from balmer.planning.plan import Cluster, as_json, plan
from balmer.planning.rates import KINDS, Rates, joined, missing, read_rates, written_rates
from scale.errors import UserError
from scale.placement import available_cores, default_workers
from scale.progress import Progress


def cluster_of(config: RunConfig, given: argparse.Namespace) -> Cluster:
    """As the run file has it on this machine, unless flags say otherwise."""
    import torch

    here = available_cores()
    own = config.workers or default_workers(config.model.device)
    workers = given.workers or given.gpus or (torch.get_num_threads() if own == 1 else own)
    return Cluster(workers, given.cores or max(workers if given.workers else 0, here), given.machines)


def measure_here(config: RunConfig, wanted: dict[str, bool] | None, progress: Progress) -> Rates:
    from balmer.planning.probes import measured
    from scale.model.language_model import choose_device

    device = choose_device(config.model)
    return measured(extent_of(config, device.type), device, wanted, progress)


def rates_of(config: RunConfig, given: argparse.Namespace, progress: Progress) -> Rates:
    """Of the files, in their order, and what they lack from here."""
    if not given.rates:
        return measure_here(config, None, progress)
    found = joined([read_rates(Path(name)) for name in given.rates])
    lacking = missing(found)
    if not lacking:
        return found
    return joined([found, measure_here(config, {kind: kind in lacking for kind in KINDS}, progress)])


def check_device(rates: Rates, given: argparse.Namespace) -> None:
    if given.gpus and rates.device != "cuda":
        raise UserError(
            f"--gpus: these rates are of {rates.name}, which is no GPU; give --rates of one, measured there with "
            "balmer plan RUN.yaml --measure rates.json"
        )
    if given.workers and rates.device == "cuda":
        raise UserError(f"--workers: these rates are of {rates.name}, a GPU; say how many with --gpus")


def carry_out(config: RunConfig, given: argparse.Namespace, progress: Progress) -> int:
    check(given)
    if given.model:
        config = replace(config, model=replace(config.model, path=given.model))
    extent_of(config)  # every mistake before the first probe
    rates = rates_of(config, given, progress)
    if given.measure:
        written_rates(Path(given.measure), rates)
    check_device(rates, given)
    found = plan(extent_of(config, rates.device), cluster_of(config, given), rates)
    if given.json:
        print(json.dumps(as_json(found), indent=2))
    else:
        print_plan(found)
    return 0
