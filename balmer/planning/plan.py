"""What a run will take, stage by stage: time, memory, disk and device hours, from what it has to do and known rates.

Pure arithmetic on `balmer.planning.work` and `balmer.planning.rates`; `balmer.planning.command` measures and prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from balmer.planning.extent import Extent
from balmer.planning.needs import disk, memory, passing
from balmer.planning.rates import KINDS, Rates
from balmer.planning.work import Amounts, StageWork, stages
from scale.errors import UserError


@dataclass(frozen=True)
class Cluster:
    """What a run is carried out on.

    Args:
        workers: Items done at a time, each on a device of its own: a GPU, or a processor core.
        cores: Processor cores in all, for what no GPU does.
        machines: What they are on: one process has the cores of one.
    """

    workers: int = 1
    cores: int = 1
    machines: int = 1

    @property
    def own_cores(self) -> int:
        return max(1, self.cores // self.machines)


@dataclass(frozen=True)
class StagePlan:
    """Of one stage, in seconds and bytes.

    Args:
        name: Of the stage.
        seconds: By kind of work, as they pass.
        device_seconds: Of all devices that items run on.
        core_seconds: Of all processor cores, what one process does by itself included.
        worker_bytes: Memory of every worker.
        driver_bytes: Memory of the process that holds the stage together.
        disk_bytes: What is left on disk.
        passing_bytes: What is on disk beside that until the stage is done.
    """

    name: str
    seconds: Mapping[str, float]
    device_seconds: float
    core_seconds: float
    worker_bytes: int
    driver_bytes: int
    disk_bytes: int
    passing_bytes: int

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def bound(self) -> str:
        """The kind of work that takes longest."""
        return max(self.seconds, key=lambda kind: self.seconds[kind])


@dataclass(frozen=True)
class Plan:
    """Of a whole run."""

    extent: Extent
    cluster: Cluster
    rates: Rates
    stages: tuple[StagePlan, ...]

    @property
    def seconds(self) -> float:
        return sum(stage.total for stage in self.stages)

    @property
    def device_hours(self) -> float:
        return sum(stage.device_seconds for stage in self.stages) / 3600

    @property
    def core_hours(self) -> float:
        return sum(stage.core_seconds for stage in self.stages) / 3600

    @property
    def longest(self) -> StagePlan:
        return max(self.stages, key=lambda stage: stage.total)

    @property
    def disk_bytes(self) -> int:
        """At most: what stages leave, and the most that one of them has beside it."""
        return sum(stage.disk_bytes for stage in self.stages) + max(stage.passing_bytes for stage in self.stages)


def seconds_of(amounts: Amounts, rates: Rates) -> dict[str, float]:
    unknown = [kind for kind in amounts if kind not in rates.rates and amounts[kind]]
    if unknown:
        raise UserError(f"--rates: no rate of {unknown[0]!r} for {rates.name}; measure it there with --measure")
    return {kind: amount / rates.rates[kind] for kind, amount in amounts.items() if amount}


def planned_stage(work: StageWork, extent: Extent, cluster: Cluster, rates: Rates) -> StagePlan:
    device, cores, machine, serial = (
        seconds_of(part, rates) for part in (work.device, work.cores, work.machine, work.serial)
    )
    passed: dict[str, float] = {}
    among_workers = min(cluster.workers, work.items)
    for part, among in ((device, among_workers), (cores, cluster.cores), (machine, cluster.own_cores), (serial, 1)):
        for kind, seconds in part.items():
            passed[kind] = passed.get(kind, 0.0) + seconds / among
    held = memory(extent)[work.name]
    return StagePlan(
        name=work.name,
        seconds=passed,
        device_seconds=sum(device.values()),
        core_seconds=sum(cores.values()) + sum(machine.values()) + sum(serial.values()),
        worker_bytes=held.worker,
        driver_bytes=held.driver,
        disk_bytes=disk(extent)[work.name],
        passing_bytes=passing(extent).get(work.name, 0),
    )


def plan(extent: Extent, cluster: Cluster, rates: Rates) -> Plan:
    if rates.walks_per_point is None:
        raise UserError("--rates: walks_per_point is missing; measure walks on any processor with --measure")
    found = stages(extent, rates.walks_per_point)
    return Plan(extent, cluster, rates, tuple(planned_stage(work, extent, cluster, rates) for work in found))


#: What may be tried where a stage bounds a run: section, settings, and the words of the advice.
REMEDIES: Mapping[str, tuple[tuple[dict[str, dict[str, Any]], str], ...]] = {
    "taps": (({"taps": {"responses": "column"}}, "taps.responses: column"),
             ({"taps": {"responses": "none"}}, "taps.responses: none")),
    "draws": (({"sgld": {"estimator": "mean-gradient", "draws": 16}, "probe": {"draws_per_document": 4}},
               "sgld.estimator: mean-gradient with 16 draws, 4 of a document"),),
    "chi": (({"sgld": {"estimator": "mean-gradient", "draws": 16}, "probe": {"draws_per_document": 4}},
             "sgld.estimator: mean-gradient with 16 draws, 4 of a document"),
            ({"probe": {"draws_per_document": 4}}, "probe.draws_per_document: 4"),
            ({"probe": {"documents_per_shard": 1}}, "probe.documents_per_shard: 1, for more items")),
    "aux": (({"aux": {"base": "none"}}, "aux.base: none"), ({"taps": {"gradients": False}}, "taps.gradients: false")),
    "upsampled": (({"taps": {"responses": "column"}}, "taps.responses: column"),
                  ({"taps": {"responses": "none"}}, "taps.responses: none")),
    "clusters": (({"cluster": {"null_seeds": 0, "max_conductance": 0.5}},
                  "cluster.null_seeds: 0 with a cluster.max_conductance"),
                 ({"aux": {"pcs": 32}}, "aux.pcs: 32")),
    "leakage": (({"leakage": {"permutations": 999}}, "leakage.permutations: 999"),
                ({"leakage": {"tokens": 5000}}, "leakage.tokens: 5000")),
}  # fmt: skip


def changed(extent: Extent, settings: Mapping[str, Mapping[str, Any]]) -> Extent:
    """The same model under other settings; inputs follow from them."""
    from scale.taps.stage import Taps, tap_layers

    config = extent.config
    sections = {name: replace(getattr(config, name), **values) for name, values in settings.items()}
    config = replace(config, **sections)
    names = ("",) * extent.components if config.taps.responses != "none" else ()
    taps = Taps(tuple(tap_layers(extent.shape.layers, config.taps.count)), config.taps.gradients, names)
    return replace(extent, config=config, inputs=taps.columns(extent.shape.width))


#: A change that saves less than this share of a run is not worth a word.
WORTH = 0.05


def advice(found: Plan) -> tuple[str, float]:
    """What would change the stage that bounds a run, and the seconds that the whole run would then take."""
    options = []
    for settings, words in REMEDIES.get(found.longest.name, ()):
        try:
            options.append((plan(changed(found.extent, settings), found.cluster, found.rates).seconds, words))
        except UserError:  # the settings do not go together with the others
            continue
    work = next(w for w in stages(found.extent, found.rates.walks_per_point or 0) if w.name == found.longest.name)
    if work.items > found.cluster.workers and work.device:
        twice = replace(found.cluster, workers=2 * found.cluster.workers)
        options.append((plan(found.extent, twice, found.rates).seconds, "twice as many workers"))
    if work.cores or work.machine:
        twice = replace(found.cluster, cores=2 * found.cluster.cores)
        options.append((plan(found.extent, twice, found.rates).seconds, "twice as many processor cores"))
    seconds, words = min(options, default=(found.seconds, ""))
    return (words, seconds) if seconds < (1 - WORTH) * found.seconds else ("", found.seconds)


def as_json(found: Plan) -> dict[str, Any]:
    words, seconds = advice(found)
    return {
        "model": {"parameters": found.extent.parameters, **vars(found.extent.shape)},
        "components": found.extent.components,
        "measured_rows": found.extent.measured_rows,
        "predicted_rows": found.extent.predicted_rows,
        "workers": found.cluster.workers,
        "cores": found.cluster.cores,
        "machines": found.cluster.machines,
        "rates": {kind: {"per_second": rate, "unit": KINDS[kind][0], "from": found.rates.origin(kind)}
                  for kind, rate in found.rates.rates.items()},
        "library_bytes": found.rates.library_bytes,
        "stages": [{"seconds": stage.total, "bound": stage.bound, **vars(stage), "by_kind": dict(stage.seconds)}
                   | {"seconds": stage.total} for stage in found.stages],
        "seconds": found.seconds,
        "device_hours": found.device_hours,
        "core_hours": found.core_hours,
        "disk_bytes": found.disk_bytes,
        "bounded_by": {"stage": found.longest.name, "work": found.longest.bound},
        "advice": {"change": words, "seconds": seconds} if words else None,
    }  # fmt: skip
