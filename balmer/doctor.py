"""What this machine can do, and whether it can do what a run file asks."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from balmer import misplaced
from balmer.config import RunConfig
from balmer.folder import LIBRARIES, commit, installed_version
from balmer.remote import open_folder
from scale.errors import UserError
from scale.storage.lease import honours_conditions
from scale.storage.objects import Objects, is_url

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and whether a run can go on with it."""

    subject: str
    found: str
    good: bool = True


def machine() -> list[Finding]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        Finding(
            "python",
            f"{platform.python_version()} on {platform.system()} {platform.machine()}",
            sys.version_info >= (3, 11),
        ),
        Finding("balmer", f"{installed_version('balmer')}, commit {commit()}"),
        Finding("processor", f"{os.cpu_count()} cores, {memory / GIB:.1f} GiB of memory"),
    ]


def libraries() -> list[Finding]:
    found = [Finding(name, version) for name in LIBRARIES if (version := installed_version(name))]
    both = installed_version("faiss-cpu") and installed_version("faiss-gpu")
    if both:
        found.append(
            Finding("faiss", "faiss-cpu and faiss-gpu are both installed and overwrite each other; keep one", False)
        )
    taken = [
        Finding(name, f"hidden by {place}; use an environment of its own", False) for name, place in misplaced().items()
    ]
    return found + taken


def accelerators() -> list[Finding]:
    import torch

    from cluster.faiss_library import library

    faiss = library()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [Finding(f"gpu {i}", torch.cuda.get_device_name(i)) for i in range(count)] or [
        Finding("gpu", "none; runs on the processor")
    ]
    on_gpu = hasattr(faiss, "StandardGpuResources")
    note = "with GPU support" if on_gpu else "processor only"
    if count and not on_gpu:
        note += "; pip install '.[gpu]' for neighbour search on the GPU"
    return [*found, Finding("faiss build", note)]


def arithmetic(config: RunConfig | None) -> list[Finding]:
    """Products in bfloat16 beside those in float32, on the device that a run would take."""
    from scale.config import ModelConfig
    from scale.model.language_model import choose_device
    from scale.model.precision import bfloat16_speed, native_bfloat16

    device = choose_device(config.model if config else ModelConfig())
    taken = "bfloat16" if native_bfloat16(device) else "float32"
    speed = bfloat16_speed(device)
    return [
        Finding("bfloat16", f"{speed:.2g} times float32's speed on {device}; upsample.precision auto takes {taken}")
    ]


def needed(config: RunConfig) -> list[Finding]:
    """Disk for the run, stage by stage, against what is free."""
    from balmer.planning.extent import extent_of
    from balmer.planning.needs import disk

    extent = extent_of(config, weights=True)
    stages = disk(extent)
    total = sum(stages.values())
    largest = max(stages, key=lambda name: stages[name])
    place = existing(open_folder(config).path)
    free = shutil.disk_usage(place).free
    parts = f"{extent.parameters:,} parameters, {sum(extent.sizes):,} in the chosen components"
    need = f"{total / GIB:.2f} GiB at most, {stages[largest] / GIB:.2f} of it {largest}; {free / GIB:.1f} GiB free"
    return [Finding("model", parts), Finding("disk", f"{need} at {place}", total < free)]


def store(config: RunConfig) -> list[Finding]:
    """Whether a run on a store can be written there, read again, and locked."""
    if not is_url(config.folder):
        return []
    try:
        objects = Objects(config.folder)
        started = time.monotonic()
        conditional = honours_conditions(objects)
        seconds = (time.monotonic() - started) / 3
    except UserError as error:
        return [Finding("store", str(error), False)]
    locks = "conditional writes" if conditional else "no conditional writes: see to it that one balmer runs at a time"
    return [Finding("store", f"{config.folder}: {1000 * seconds:.0f} ms a write; {locks}")]


def every_node(config: RunConfig) -> list[Finding]:
    """The machines of the cluster that a run would be done on, each asked for itself and for the run folder."""
    if config.engine != "ray":
        return []
    from balmer.engines import check_engine
    from balmer.nodes import judged, marked, node_facts

    check_engine(config)
    from scale.ray.engine import ask_every_node

    if is_url(config.folder):
        facts = ask_every_node(config.ray, node_facts, config.folder, "")
    else:
        place = existing(Path(config.folder))
        with marked(place) as mark:
            facts = ask_every_node(config.ray, node_facts, str(place), mark)
    return [Finding(f"node {name}", line, good) for name, line, good in judged(facts)]


def existing(folder: Path) -> Path:
    """The folder itself, or the first above it that there is."""
    return next(place for place in [folder, *folder.parents] if place.exists())


def print_doctor(config: RunConfig | None) -> int:
    findings = machine() + libraries() + accelerators() + arithmetic(config)
    findings += needed(config) + store(config) + every_node(config) if config else []
    for finding in findings:
        print(f"{'ok  ' if finding.good else 'BAD '} {finding.subject:<14} {finding.found}")
    return 0 if all(finding.good for finding in findings) else 1
