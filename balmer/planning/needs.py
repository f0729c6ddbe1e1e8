"""What every stage of a run writes and holds, in bytes: the one place that counts them.

Disk follows from what stages write and is exact but for tables; where it hangs on what is found (PCs, edges, clusters)
it is at most that. Memory is an estimate, above what the libraries themselves take.
"""

from __future__ import annotations

from dataclasses import dataclass

from aux.model import AuxShape
from aux.moments import BLOCK_ROWS
from aux.stage import JUDGED
from balmer.planning.extent import Extent
from cluster.neighbours import SPARE
from cluster.products import ROOM
from scale.costs import METHODS
from scale.model.batches import Budget, default_tokens
from scale.model.losses import CPU_ROWS, CPU_VOCABULARY, GPU_LOGITS

#: Of a row of a table, compressed: of the rows of a corpus, of one context, of one word of the vocabulary.
ROW_BYTES, CONTEXT_BYTES, WORD_BYTES = 3, 16, 5
#: Of the report: its libraries, and of every predicted token (measured on the demo).
REPORT_BYTES, REPORT_ROW_BYTES = 5 * 2**20, 30
#: The peak of the clusters stage grows by so many times what its arrays take (docs/scaling.md).
GROWTH = 1.6
#: Numbers held for every parameter of a variant: its weights, their gradient, what the sampler keeps, and noise.
SAMPLED, PROBED = 4, 2
#: Copies of an auxiliary model in the checkpoint of its training: weights, two moments, and the best epoch's weights.
CHECKPOINT = 4
#: Copies of the run's graph while clusters are looked for again: among resampled documents, from both ends.
GRAPHS = 5
#: Libraries that only searches and walks load, and what they compile.
KERNELS = 60 * 2**20
#: Points for every cluster that is found: 1,300 in the demo, 800 in the literature.
POINTS_PER_CLUSTER = 1000
#: Copies of a residual stream that a block holds at once, beside what its products give.
STREAMS = 8


def draws_bytes(extent: Extent) -> int:
    """What is kept of the draws: of every component, and of the full model if there are chains."""
    settings, parts, whole = extent.config.sgld, sum(extent.sizes), extent.parameters
    kept = {  # numbers of every chain: what is kept of a component, and of the full model
        "plain": settings.draws * (parts + whole),
        "gaussian-gradient": settings.draws * parts,
        "mean-gradient": parts,
        "tangent-gradient": settings.draws * (2 * parts + whole),
    }[settings.estimator]
    return kept * (2 if settings.storage == "float16" else 4) * settings.chains


def aux_parameters(shape: AuxShape) -> int:
    """Of an auxiliary model: encoder, decoder, base, and the statistics that it knows."""
    encoders = {"one-layer": 1, "two-layer": 1, "gated": 2, "linear": 0}[shape.architecture]
    encoder = encoders * (shape.inputs + 1) * shape.hidden
    between = (shape.hidden + 1) * shape.hidden if shape.architecture == "two-layer" else 0
    base = shape.inputs * shape.outputs if shape.base == "ridge" else 0
    return encoder + between + (shape.hidden + 1) * shape.outputs + base + 2 * (shape.inputs + shape.outputs)


def aux_shape(extent: Extent) -> AuxShape:
    config = extent.config.aux
    return AuxShape(extent.inputs, extent.hidden, extent.pcs, config.architecture, config.base)


def graph_bytes(extent: Extent) -> int:
    """Every neighbour gives an edge, which is there from both ends: at most 2k places and weights of every token."""
    return extent.predicted_rows * (8 * 2 * extent.config.cluster.k + 8)


def disk(extent: Extent) -> dict[str, int]:
    """Bytes of every published stage."""
    config, rows, components = extent.config, extent.measured_rows, extent.components
    directions = 4 * sum(extent.sizes) if config.taps.responses != "none" else 0
    tokens = extent.contexts * extent.length
    return {
        "corpus": 4 * tokens + CONTEXT_BYTES * extent.contexts + WORD_BYTES * extent.shape.vocabulary,
        "taps": 4 * rows * extent.inputs + directions,
        "draws": draws_bytes(extent),
        "chi": rows * (4 * (4 * components + 3) + ROW_BYTES),
        "aux": 4 * aux_parameters(aux_shape(extent)),
        "upsampled": extent.predicted_rows * (4 * extent.pcs + ROW_BYTES),
        "clusters": graph_bytes(extent) + 4 * extent.predicted_rows,
        "leakage": 8 * components * (extent.predicted_rows // POINTS_PER_CLUSTER),
        "report": REPORT_BYTES + REPORT_ROW_BYTES * extent.predicted_rows,
    }


def passing(extent: Extent) -> dict[str, int]:
    """Bytes that a stage writes beside these while it is made, and removes."""
    rows, k, d = extent.predicted_rows, extent.config.cluster.k, extent.pcs
    searches = 2 if extent.config.cluster.null_seeds else 1
    return {
        "aux": 4 * extent.truth_rows * extent.pcs * 3 + 2 * CHECKPOINT * 4 * aux_parameters(aux_shape(extent)),
        "clusters": searches * (rows * (8 * d + 8 * k + 12) + graph_bytes(extent)),
    }


@dataclass(frozen=True)
class Memory:
    """Bytes: of every worker, on its GPU if it has one; and of the process that holds the stage together."""

    worker: int = 0
    driver: int = 0


def activations(extent: Extent, gradient: bool) -> int:
    """What a forward pass holds of as many tokens as are evaluated at once; with gradients, in every block."""
    import torch

    shape = extent.shape
    at_once = max(extent.config.model.batch_tokens or default_tokens(torch.device(extent.device)), extent.length)
    logits = GPU_LOGITS if extent.device == "cuda" else CPU_ROWS * min(shape.vocabulary, CPU_VOCABULARY)
    one = STREAMS * shape.width + (shape.projected or 3 * shape.width) + (3 + shape.gated) * shape.intermediate
    return extent.number_bytes * at_once * one * (shape.layers if gradient else 1) + 4 * logits


def variants(extent: Extent, held: int, tokens: int, most: int) -> int:
    """Perturbed weights of as many variants as are evaluated at once, each on so many tokens, where they are most."""
    import torch

    budget = Budget.of(torch.device(extent.device), extent.config.model.batch_tokens)
    return 4 * held * max(one * min(most, budget.variants(tokens, one)) for one in (*extent.sizes, extent.parameters))


def training_memory(extent: Extent) -> int:
    """Of one step after another, hardly any of which gives back what it held before the next.

    A regression. Training: weights, gradients, two moments and the best weights, beside the weights of the model
    that was trained before. Judging: some rows twice, and their hidden activations twice;
    the regression reads all rows of a shard in double precision.
    """
    shape, config = aux_shape(extent), extent.config
    weights, regression = 4 * aux_parameters(shape), regression_memory(extent.truth_rows, shape.inputs + shape.outputs)
    shard = min(config.taps.contexts_per_shard, config.corpus.heldout_contexts) * (extent.length - 1)
    judged = min(shard, max(1, JUDGED // shape.hidden))
    judging = 2 * 4 * judged * (shape.inputs + shape.hidden) + 8 * shard * shape.inputs
    return regression + (5 + 1) * weights + judging


def regression_memory(rows: int, width: int) -> int:
    """Sums of all columns by all, and eigenvectors; a block of rows as read, in double precision and about its mean."""
    return 3 * 8 * width**2 + (4 + 8 + 8) * min(BLOCK_ROWS, rows) * width


def compared_memory(extent: Extent) -> int:
    """The sample of held-out rows, what a search among them keeps, and graphs of the run and of its documents."""
    k, d = extent.config.cluster.k, extent.pcs
    sample = 4 * extent.sampled_rows * (extent.inputs + 4 * d)
    searched = (4 + 8) * ROOM * (max(k, extent.config.leakage.k) + SPARE) * extent.sampled_rows
    return KERNELS + sample + searched + GRAPHS * graph_bytes(extent)


def memory(extent: Extent) -> dict[str, Memory]:
    """Of every stage, beside the libraries."""
    model = extent.number_bytes * extent.parameters
    once, with_gradients = (model + activations(extent, gradient) for gradient in (False, True))
    corpus, sgld, probe = extent.config.corpus, extent.config.sgld, extent.config.probe
    at_once = METHODS[sgld.estimator].evaluations * probe.draws_per_document
    sampled = variants(extent, SAMPLED, sgld.batch_contexts * extent.length, sgld.chains * extent.components)
    probed = variants(extent, PROBED, corpus.contexts_per_document * extent.length, at_once)
    rows, k, d = extent.predicted_rows, extent.config.cluster.k, extent.pcs
    table = rows * (4 * d + 8 * k + 6 * k + 16 * k + 37)
    gradients = extent.config.taps.gradients or extent.config.taps.responses != "none"
    predicting = with_gradients if gradients else once
    directions = 4 * sum(extent.sizes) if extent.config.taps.responses != "none" else 0
    heldout = 4 * corpus.heldout_contexts * (extent.length - 1) * 3 * d
    return {
        "corpus": Memory(driver=4 * extent.contexts * extent.length),
        "taps": Memory(predicting + directions),
        "draws": Memory(with_gradients + sampled),
        "chi": Memory(once + probed),
        "aux": Memory(driver=training_memory(extent) + heldout),
        "upsampled": Memory(predicting + directions + 4 * aux_parameters(aux_shape(extent))),
        "clusters": Memory(driver=int(GROWTH * table)),
        "leakage": Memory(driver=compared_memory(extent) + heldout),
        "report": Memory(driver=60 * rows),
    }
