"""What every stage of a run has to do, in operations and other countable things. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from balmer.planning.extent import Extent
from balmer.planning.needs import POINTS_PER_CLUSTER, aux_parameters, aux_shape, disk, passing
from cluster.pagerank import EXPLORED_SHARE, SMALLEST_EPSILON
from scale.costs import METHODS, Passes, Work
from scale.model.operations import block_backward, block_forward, unembedding_forward
from scale.taps.stage import tap_layers

#: Share of all pairs that an approximate search compares, or what it takes in their place (docs/scaling.md).
LISTS_SHARE = 0.15
#: Sums of a regression and the eigenvectors of them: operations for every entry, and for every entry and column.
EIGENVECTORS = 9
FORWARD_AND_BACKWARD = 3
#: Searches for neighbours, and for clusters, of the held-out sample in the stage `leakage`; and of a cluster's support.
SAMPLE_NEIGHBOURS, SAMPLE_SEARCHES, SUPPORTS = 8, 5, 8
#: Degrees of the graph are at most twice the neighbours asked for; two in three neighbours are mutual.
DEGREE = 1.8


#: So much of every kind of work.
Amounts = dict[str, float]


@dataclass(frozen=True)
class StageWork:
    """Counts by kind of work (`balmer.planning.rates.KINDS`).

    Args:
        name: Of the stage.
        device: What items do, each on a device of its own.
        cores: What all processor cores share.
        machine: What one process does with all cores of its machine.
        serial: What it does with one.
        items: Independent items that ``device`` falls into: no more workers than that have something to do.
    """

    name: str
    device: Amounts = field(default_factory=dict)
    cores: Amounts = field(default_factory=dict)
    machine: Amounts = field(default_factory=dict)
    serial: Amounts = field(default_factory=dict)
    items: int = 1


def added(*parts: Mapping[str, float]) -> Amounts:
    found: Amounts = {}
    for part in parts:
        for kind, amount in part.items():
            found[kind] = found.get(kind, 0.0) + amount
    return found


def through_blocks(extent: Extent, tokens: float, blocks: float) -> Amounts:
    return {"blocks": tokens * blocks * sum(block_forward(extent.shape, extent.length).values())}


def forward(extent: Extent, tokens: float, start: int) -> Amounts:
    """Token losses, from block ``start`` on."""
    losses = {"unembedding": tokens * unembedding_forward(extent.shape)}
    return added(through_blocks(extent, tokens, extent.shape.layers - start), losses)


def gradient(extent: Extent, tokens: float, start: int) -> Amounts:
    """Losses and their gradients, down to block ``start``."""
    both = block_forward(extent.shape, extent.length) + block_backward(extent.shape, extent.length)
    return {
        "block gradients": tokens * (extent.shape.layers - start) * sum(both.values()),
        "unembedding gradients": tokens * 2 * unembedding_forward(extent.shape),
    }


def passes(extent: Extent, done: Passes, start: int) -> Amounts:
    return added(forward(extent, done.forward, start), gradient(extent, done.gradient, start))


def work_of(extent: Extent) -> Work:
    """As `scale.costs` names things."""
    return Work(
        measured=extent.measured_contexts * extent.length,
        reference=extent.reference_tokens,
        minibatch=extent.config.sgld.batch_contexts * extent.length,
        shares=(),
    )


def inputs_of(extent: Extent, tokens: float) -> Amounts:
    """What predictions read of so many tokens, but for the directions of responses."""
    taps, shape = extent.config.taps, extent.shape
    if not taps.gradients and taps.responses == "none":
        return through_blocks(extent, tokens, tap_layers(shape.layers, taps.count)[-1])
    lowest = 0 if taps.responses != "none" else tap_layers(shape.layers, taps.count)[0]
    found = added(gradient(extent, tokens, lowest), through_blocks(extent, tokens, lowest))
    if taps.responses == "none":
        return found
    top = sum(start == shape.layers for start in extent.starts)
    reached = (1 if taps.responses == "column" else shape.layers - start for start in extent.starts)
    blocks = sum(blocks for blocks, start in zip(reached, extent.starts, strict=True) if start < shape.layers)
    losses = {"unembedding": 2.0 * tokens * top * unembedding_forward(shape)}
    return added(found, through_blocks(extent, 2 * tokens, blocks), losses)


def of_corpus(extent: Extent) -> StageWork:
    return StageWork("corpus", serial={"tokens": extent.contexts * extent.length, "start": 1})


def of_taps(extent: Extent) -> StageWork:
    taps, tokens = extent.config.taps, extent.measured_contexts * extent.length
    found, items = inputs_of(extent, tokens), -(-extent.measured_contexts // taps.contexts_per_shard)
    if taps.responses != "none":
        drawn = taps.direction_draws * extent.reference_tokens
        moved = {"perturbation": float(taps.direction_draws * sum(extent.sizes))}
        found = added(found, *(gradient(extent, drawn, start) for start in extent.starts), moved)
    return StageWork("taps", device=found, items=items)


def of_draws(extent: Extent) -> StageWork:
    settings, work = extent.config.sgld, work_of(extent)
    method = METHODS[settings.estimator]
    own = [passes(extent, method.sampling(settings, work, False), start) for start in extent.starts]
    whole = passes(extent, method.sampling(settings, work, True), 0)
    steps = settings.draws if method.gaussian else settings.total_steps
    drawn = {"perturbation": float(settings.chains * steps * (sum(extent.sizes) + extent.parameters))}
    return StageWork("draws", added(*own, whole, drawn), items=settings.chains * (extent.components + 1))


def of_chi(extent: Extent) -> StageWork:
    settings, method = extent.config.probe, METHODS[extent.config.sgld.estimator]
    tokens = extent.measured_contexts * extent.length
    times = settings.draws_per_document * method.evaluations
    own = [forward(extent, times * tokens, start) for start in (*extent.starts, 0)]
    drawn = {"perturbation": float(extent.documents * times * (sum(extent.sizes) + extent.parameters))}
    items = -(-extent.documents // settings.documents_per_shard)
    return StageWork("chi", added(*own, forward(extent, tokens, 0), drawn), items=items)


def of_aux(extent: Extent) -> StageWork:
    """Two models, at most as many epochs as asked for, and three regressions."""
    config, width = extent.config.aux, extent.inputs + extent.pcs
    rows = extent.truth_rows * (1 - config.validation_share)
    steps = 2 * config.epochs * rows * FORWARD_AND_BACKWARD * 2 * aux_parameters(aux_shape(extent))
    regressions = 3 if config.base == "ridge" else 1
    sums = regressions * (2 * extent.truth_rows * width**2 + EIGENVECTORS * width**3)
    return StageWork(
        "aux", {"training": steps}, {"regression": float(sums)}, serial={"training start": 1}, items=config.devices
    )


def of_upsampled(extent: Extent) -> StageWork:
    tokens = extent.predicted_contexts * extent.length
    predicted = {"training": 2.0 * tokens * aux_parameters(aux_shape(extent))}
    items = -(-extent.predicted_contexts // extent.config.upsample.contexts_per_shard)
    return StageWork("upsampled", added(inputs_of(extent, tokens), predicted), items=items)


def pairs(extent: Extent, points: int) -> float:
    """Operations of a search for the neighbours of all points."""
    from cluster.neighbours import EXACT_BUDGET, GRAPHICS_BUDGET

    compared = float(points) ** 2 * extent.pcs
    exact = extent.config.cluster.search == "exact" or compared <= (
        GRAPHICS_BUDGET if extent.device == "cuda" else EXACT_BUDGET
    )
    return 2 * compared * (1 if exact else LISTS_SHARE)


def walk(extent: Extent, points: int) -> float:
    """1/ε of a walk on the graph of so many points."""
    volume = DEGREE * extent.config.cluster.k * points
    return 1 / (extent.config.cluster.epsilon or max(SMALLEST_EPSILON, EXPLORED_SHARE / volume))


def of_clusters(extent: Extent, walks_per_point: float) -> StageWork:
    config, points = extent.config.cluster, extent.predicted_rows
    searches = 2 if config.null_seeds else 1
    walks = walks_per_point * points + min(config.null_seeds, walks_per_point * points)
    found = {"neighbours": searches * pairs(extent, points)}
    walked = {"walks": walks * walk(extent, points)}
    items = -(-points // (1 << 17))
    serial = {"points": float(searches * points)}
    if extent.device == "cuda":
        return StageWork("clusters", found, walked, serial=serial, items=items)
    return StageWork("clusters", cores=added(found, walked), serial=serial)


def of_leakage(extent: Extent, walks_per_point: float) -> StageWork:
    """Of neighbours of the sample, in its inputs and in its coordinates, and of walks: over the sample and the run."""
    config, taps, sample = extent.config.leakage, extent.config.taps, extent.sampled_rows
    parts = taps.count * (2 if taps.gradients else 1) + taps.gradients
    widths = parts * extent.shape.width + (extent.components if taps.responses != "none" else 0)
    compared = 2.0 * sample**2 * (widths + SAMPLE_NEIGHBOURS * extent.pcs)
    clusters = extent.predicted_rows / POINTS_PER_CLUSTER
    walks = SAMPLE_SEARCHES * walks_per_point * sample * walk(extent, sample)
    walks += 2 * config.repeats * clusters * walk(extent, extent.predicted_rows)
    near = {"neighbours": compared}
    sets = {"sets": SUPPORTS * clusters * config.permutations}
    serial = {"points": float((1 + config.repeats) * extent.predicted_rows)}
    if extent.device == "cuda":
        return StageWork("leakage", near, {"walks": walks}, sets, serial)
    return StageWork("leakage", cores=added(near, {"walks": walks}), machine=sets, serial=serial)


def of_report(extent: Extent) -> StageWork:
    return StageWork("report", serial={"points": float(extent.predicted_rows)})


def stages(extent: Extent, walks_per_point: float) -> list[StageWork]:
    """Every stage in order, with what it writes."""
    found = [
        of_corpus(extent), of_taps(extent), of_draws(extent), of_chi(extent), of_aux(extent), of_upsampled(extent),
        of_clusters(extent, walks_per_point), of_leakage(extent, walks_per_point), of_report(extent),
    ]  # fmt: skip
    kept, more = disk(extent), passing(extent)
    for stage in found:
        stage.serial["disk"] = kept[stage.name] + more.get(stage.name, 0)
    return found
