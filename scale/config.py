"""Settings of the stages of ``scale/``: one frozen dataclass each, every default written here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scale.errors import UserError

SourceKind = Literal["python-stdlib", "text", "jsonl", "parquet", "dataset"]
Split = Literal["truth", "heldout", "upsample"]


def require(condition: bool, message: str) -> None:
    """Raise a `UserError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise UserError(message)


@dataclass(frozen=True)
class ModelConfig:
    """The language model to be read.

    Args:
        path: Folder saved by transformers, or the name of a model on the Hugging Face hub.
        revision: Branch, tag or commit on the hub.
        device: Where it runs; "auto" takes a GPU if there is one.
        dtype: Precision of weights and activations.
        batch_tokens: Tokens evaluated at once; 0 chooses by device.
    """

    path: str = ""
    revision: str = "main"
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_tokens: int = 0

    def __post_init__(self) -> None:
        require(self.batch_tokens >= 0, f"model.batch_tokens must not be negative, got {self.batch_tokens}")
        require(
            not (self.dtype == "float16" and self.device == "cpu"),
            "model.dtype: float16 is not supported on model.device: cpu; use float32",
        )


@dataclass(frozen=True)
class CorpusConfig:
    """The text, cut into contexts of equal length and split by document.

    Args:
        kind: The running Python's standard library, text files, JSON lines, Parquet tables, or a hub dataset.
        path: File or folder of the text, or the name of the dataset.
        pattern: Which files of a folder are read, as a glob; if empty, those with the usual suffix of the kind.
        column: Field or column that holds the text, for jsonl, parquet and dataset.
        dataset_config: Configuration of the dataset, if it has several.
        dataset_split: Split of the dataset.
        context_length: Tokens per context.
        contexts_per_document: At most this many contexts are taken from one document, at random places.
        short_documents: What to do with a document that does not fill one context: stop ("error"), leave it out and
            count it ("drop"), or join it to the next such documents, with the end-of-text token between, until they
            fill a context ("pack"). A pack counts as one document throughout.
        truth_contexts: Contexts on which susceptibilities are measured and the auxiliary model is trained.
        heldout_contexts: Contexts on which susceptibilities are measured and nothing is trained.
        upsample_contexts: Contexts on which susceptibilities are predicted only.
        seed: Orders the files and decides which document goes to which split.
    """

    kind: SourceKind = "text"
    path: str = ""
    pattern: str = ""
    column: str = "text"
    dataset_config: str = ""
    dataset_split: str = "train"
    context_length: int = 128
    contexts_per_document: int = 8
    short_documents: Literal["error", "drop", "pack"] = "error"
    truth_contexts: int = 2048
    heldout_contexts: int = 512
    upsample_contexts: int = 16384
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.context_length >= 2, f"corpus.context_length must be at least 2, got {self.context_length}")
        for key in ("contexts_per_document", "truth_contexts", "heldout_contexts", "upsample_contexts"):
            require(getattr(self, key) >= 1, f"corpus.{key} must be at least 1, got {getattr(self, key)}")
        require(
            self.kind == "python-stdlib" or bool(self.path), f"corpus.path is empty; corpus.kind: {self.kind} needs it"
        )


@dataclass(frozen=True)
class SGLDConfig:
    """The local posterior p(v) ~ exp(-nβ L(v) - γ/2 |v - v*|²) of every component, and how it is sampled.

    The published values for Pythia-1.4B are γ 300, nβ 10, ε 1e-5, batch 16, 4 chains, 100 draws, 160 steps between
    draws; for a 3M-parameter model γ 300, nβ 30, ε 1e-3, batch 64, 4 chains, 200 draws.

    Args:
        components: Names ("l3h1", "l3 mlp", "embed"), unions ("l3h0 + l3h1"), or groups ("heads", "mlps", "all").
        estimator: "plain" takes the covariance over draws of the sampler. "gaussian-gradient" takes N(w*, I/γ) for the
            posterior, which it is where the loss holds little of it, and gradients at draws of it: no chain, no steps;
            far more reliable for the same cost. "mean-gradient" takes the mean of those gradients, which is the first
            and by far the largest term of that covariance, as reliable at 3 to 8 times less cost. "tangent-gradient"
            carries gradients along chains of the posterior itself (docs/estimators.md).
        sampler: "rmsprop-sgld" preconditions by the running gradient scale, "sgld" does not. "gaussian" is a control:
            the draws of rmsprop-sgld, each replaced by isotropic noise of the same norm; of gaussian-gradient and
            mean-gradient, every direction. Otherwise gradients do without: those of chains solve the localisation
            exactly and do not precondition.
        step_size: ε, as in devinterp: drift ε/2, noise sqrt(ε).
        nbeta: nβ, the weight of the loss; 0 is a control without loss, whose preconditioner is 1 / rmsprop_stability.
        localization: γ, the pull towards the trained weights.
        batch_contexts: Contexts in one minibatch.
        chains: Independent chains per component; half of them make one measurement, half the other. For gradients: as
            many streams of independent draws.
        burn_in: Steps before the first draw.
        draws: Draws kept per chain; for gradients in pairs of opposite sign, of the point or of the chain's noise.
        steps_between_draws: Steps from one draw to the next.
        pool_contexts: Contexts (from the truth split) that the sampler's minibatches are taken from.
        reference_contexts: Contexts of that pool on which L is evaluated at every draw.
        runaway: A chain whose loss rises by more nats than this has diverged and is left out.
        rmsprop_decay: Decay of the running mean of squared gradients.
        rmsprop_stability: Added to its square root.
        storage: Precision in which draws are kept; what is kept is what is evaluated.
        checkpoint_every: Steps from one checkpoint of a running chain to the next; 0 writes none.
        seed: Seed of the chains.
    """

    components: tuple[str, ...] = ("all",)
    estimator: Literal["plain", "gaussian-gradient", "mean-gradient", "tangent-gradient"] = "plain"
    sampler: Literal["rmsprop-sgld", "sgld", "gaussian"] = "rmsprop-sgld"
    step_size: float = 1e-3
    nbeta: float = 30.0
    localization: float = 300.0
    batch_contexts: int = 16
    chains: int = 4
    burn_in: int = 20
    draws: int = 100
    steps_between_draws: int = 2
    pool_contexts: int = 256
    reference_contexts: int = 64
    runaway: float = 10.0
    rmsprop_decay: float = 0.99
    rmsprop_stability: float = 0.1
    storage: Literal["float32", "float16"] = "float32"
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("batch_contexts", "draws", "steps_between_draws", "pool_contexts", "reference_contexts"):
            require(getattr(self, key) >= 1, f"sgld.{key} must be at least 1, got {getattr(self, key)}")
        require(
            self.chains >= 2 and self.chains % 2 == 0,
            f"sgld.chains must be even and at least 2 (half against half gives the reliability), got {self.chains}",
        )
        for key in ("burn_in", "checkpoint_every"):
            require(getattr(self, key) >= 0, f"sgld.{key} must not be negative, got {getattr(self, key)}")
        require(self.step_size > 0, f"sgld.step_size must be positive, got {self.step_size}")
        require(self.nbeta >= 0, f"sgld.nbeta must not be negative, got {self.nbeta}")
        require(self.localization >= 0, f"sgld.localization must not be negative, got {self.localization}")
        require(0 <= self.rmsprop_decay < 1, f"sgld.rmsprop_decay must lie in [0, 1), got {self.rmsprop_decay}")
        require(self.rmsprop_stability > 0, f"sgld.rmsprop_stability must be positive, got {self.rmsprop_stability}")
        require(bool(self.components), 'sgld.components is empty; name components or a group such as "all"')
        if self.estimator != "plain":
            require(self.draws % 2 == 0, f"sgld.draws must be even, draws come in pairs of two signs; got {self.draws}")
            require(self.localization > 0, f"sgld.localization must be positive for sgld.estimator: {self.estimator}")
        if self.estimator == "tangent-gradient":
            most = 2 / self.localization
            require(
                self.step_size < most,
                f"sgld.step_size: {self.step_size:g} with sgld.localization {self.localization:g} is more than a chain "
                f"of sgld.estimator: tangent-gradient can go at once; it must be below {most:g}",
            )

    @property
    def total_steps(self) -> int:
        """Steps of one chain."""
        return self.burn_in + self.draws * self.steps_between_draws


@dataclass(frozen=True)
class ProbeConfig:
    """How tokens are probed at the stored draws.

    Args:
        draws: "per-document" probes each document at its own random subset of the draws, so that errors are independent
            between documents; "shared" probes all at the same subset, as the published runs do.
        draws_per_document: Size of that subset, over all chains; half of it from either half of the chains. A draw
            with gradients takes two evaluations.
        difference_step: Step of its central differences, in standard deviations of the posterior.
        documents_per_shard: Documents in one work item.
        seed: Chooses the subsets.
    """

    draws: Literal["per-document", "shared"] = "per-document"
    draws_per_document: int = 40
    difference_step: float = 0.3
    documents_per_shard: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.draws_per_document >= 4 and self.draws_per_document % 2 == 0,
            f"probe.draws_per_document must be even and at least 4, got {self.draws_per_document}",
        )
        require(self.difference_step > 0, f"probe.difference_step must be positive, got {self.difference_step}")
        require(
            self.documents_per_shard >= 1,
            f"probe.documents_per_shard must be at least 1, got {self.documents_per_shard}",
        )


def check_together(sgld: SGLDConfig, probe: ProbeConfig) -> None:
    """What the draws and their use ask of each other."""
    require(
        sgld.estimator == "plain" or probe.draws_per_document % 4 == 0,
        f"probe.draws_per_document must be a multiple of 4 for sgld.estimator: {sgld.estimator} (pairs, in two "
        f"halves), got {probe.draws_per_document}",
    )


@dataclass(frozen=True)
class TapsConfig:
    """What the auxiliary model reads of a token.

    Args:
        count: Number of evenly spaced intermediate layers at which the residual stream is read.
        gradients: Read the gradients of the token's loss there and at the top, too: one backward pass.
        responses: Read the first-order response of the token's loss to every component, too: along the token's own
            "column", for all components together some more forward passes; or through the "model", two passes from its
            block on for every component, and nearly all that there is to predict; or "none". Either input makes
            predictions far better (docs/auxiliary.md); without both they are made from activations alone, as published.
        direction_draws: Draws behind the direction that each component is moved along for its response.
        contexts_per_shard: Contexts in one work item.
    """

    count: int = 4
    gradients: bool = True
    responses: Literal["none", "column", "model"] = "column"
    direction_draws: int = 16
    contexts_per_shard: int = 64

    def __post_init__(self) -> None:
        require(self.count >= 1, f"taps.count must be at least 1, got {self.count}")
        require(
            self.direction_draws >= 2 and self.direction_draws % 2 == 0,
            f"taps.direction_draws must be even and at least 2, draws come in pairs of two signs; "
            f"got {self.direction_draws}",
        )
        require(
            self.contexts_per_shard >= 1, f"taps.contexts_per_shard must be at least 1, got {self.contexts_per_shard}"
        )


@dataclass(frozen=True)
class CalibrateConfig:
    """How `balmer calibrate` tries settings of the sampler, and what it asks of one. Changes no stage of a run.

    Args:
        components: Names or groups to try; if empty, the lowest, middle and top of every kind in sgld.components.
        step_factors: ε tried, as multiples of sgld.step_size, from the smallest up to the first that is too large.
        nbeta_factors: nβ tried, as multiples of sgld.nbeta.
        localization_factors: γ tried, as multiples of sgld.localization; ε·γ is kept.
        chains: Chains per component and setting; half against half gives the reliability.
        steps: Steps of a chain; all is judged on the second half.
        steps_between_draws: Steps from one evaluation of L to the next.
        probe_contexts: Contexts (from the heldout split) on which susceptibilities are measured.
        noise: What is this many standard errors from zero, a slope or a gap between chains, is there.
        max_drift: A slope that adds no more than this share of the rise is let pass.
        max_rhat: Largest R-hat of the losses at draws, where the chains' means differ by more than their noise.
        max_jump: Largest change from one step to the next, in typical (median) ones.
        min_signal: Least rise of the loss, in standard errors.
        max_rise: Largest rise of the loss, as a share of what the model gains over a uniform guess.
        max_bias: Largest share by which the step size inflates the variance of the posterior.
        target_reliability: Settings and estimators are compared by the cost of a χ as reliable as this.
        tie: A setting must be cheaper than the run file's by this share to be preferred to it.
        draw_worth: Steps between draws are recommended so that a draw is worth this share of an independent one.
        allocation_draws: Draws of a half with which every estimator is tried at the recommended setting.
        draws_share: A document is probed at no more than this share of the stored draws, so that documents have little
            of their error in common.
    """

    components: tuple[str, ...] = ()
    step_factors: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    nbeta_factors: tuple[float, ...] = (0.3, 1.0, 3.0)
    localization_factors: tuple[float, ...] = (0.3, 1.0, 3.0)
    chains: int = 2
    steps: int = 40
    steps_between_draws: int = 2
    probe_contexts: int = 8
    noise: float = 4.0
    max_drift: float = 0.1
    max_rhat: float = 1.2
    max_jump: float = 10.0
    min_signal: float = 2.0
    max_rise: float = 0.5
    max_bias: float = 0.1
    target_reliability: float = 0.8
    tie: float = 0.2
    draw_worth: float = 0.5
    allocation_draws: int = 16
    draws_share: float = 0.25

    def __post_init__(self) -> None:
        for key in ("step_factors", "nbeta_factors", "localization_factors"):
            factors = getattr(self, key)
            require(bool(factors), f"calibrate.{key} is empty; [1.0] tries the run file's value alone")
            require(all(f > 0 for f in factors), f"calibrate.{key} must be positive, got {list(factors)}")
        require(
            self.chains >= 2 and self.chains % 2 == 0,
            f"calibrate.chains must be even and at least 2, got {self.chains}",
        )
        for key in ("steps_between_draws", "probe_contexts"):
            require(getattr(self, key) >= 1, f"calibrate.{key} must be at least 1, got {getattr(self, key)}")
        least = 8 * self.steps_between_draws
        require(self.steps >= least, f"calibrate.steps must be at least {least} (8 draws), got {self.steps}")
        for key in ("noise", "max_drift", "max_rhat", "max_jump", "min_signal", "max_rise", "max_bias"):
            require(getattr(self, key) > 0, f"calibrate.{key} must be positive, got {getattr(self, key)}")
        require(self.tie >= 0, f"calibrate.tie must not be negative, got {self.tie}")
        require(
            self.allocation_draws >= 4 and self.allocation_draws % 4 == 0,
            f"calibrate.allocation_draws must be a multiple of 4, got {self.allocation_draws}",
        )
        for key in ("target_reliability", "draw_worth", "draws_share"):
            require(0 < getattr(self, key) < 1, f"calibrate.{key} must lie between 0 and 1, got {getattr(self, key)}")


@dataclass(frozen=True)
class RayConfig:
    """A Ray cluster and what its workers hold, for `engine: ray`. Changes no stage of a run.

    Args:
        address: Of a running cluster ("auto" on one of its machines); if empty, one is started on this machine for the
            run alone.
        workers: Items at a time, each with a copy of the model; 0 takes as many as the nodes have room for, also those
            nodes that join later.
        cpus_per_worker: Cores that a worker holds, and threads that it computes in.
        gpus_per_worker: GPUs that a worker holds; with a fraction several share one. Null takes one, or none if the
            cluster has none.
        attempts: Times that an item is tried before it is set aside; a worker that dies under it counts.
        node_deaths: Nodes that die under an item, beside those attempts, before it is set aside: where machines are
            taken away, the item is hardly to blame.
        patience: Seconds to wait for a first node with room for a worker, and for a finished shard to be seen here.
        dashboard_host: Where the dashboard of a cluster started for the run listens; if empty, there is none.
    """

    address: str = ""
    workers: int = 0
    cpus_per_worker: float = 1.0
    gpus_per_worker: float | None = None
    attempts: int = 3
    node_deaths: int = 20
    patience: float = 300.0
    dashboard_host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        require(
            not self.address.startswith("ray://"),
            "ray.address: ray:// is for clients from outside; give the command on a machine of the cluster",
        )
        require(self.workers >= 0, f"ray.workers must be 0 (as many as there is room for) or more, got {self.workers}")
        require(self.cpus_per_worker > 0, f"ray.cpus_per_worker must be positive, got {self.cpus_per_worker}")
        gpus = self.gpus_per_worker
        require(
            gpus is None or (gpus >= 0 and (gpus <= 1 or gpus == int(gpus))),
            f"ray.gpus_per_worker must be a whole number, or a fraction of one GPU, got {gpus}",
        )
        require(self.attempts >= 1, f"ray.attempts must be at least 1, got {self.attempts}")
        require(self.node_deaths >= 1, f"ray.node_deaths must be at least 1, got {self.node_deaths}")
        require(self.patience > 0, f"ray.patience must be positive, got {self.patience}")
