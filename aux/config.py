"""Settings of the auxiliary model and of upsampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scale.errors import UserError

Architecture = Literal["one-layer", "two-layer", "gated", "linear"]
Base = Literal["ridge", "none"]


@dataclass(frozen=True)
class AuxConfig:
    """Settings of the auxiliary model.

    Args:
        estimator: Which susceptibility is predicted: `two-chain`, or the `covariance` within restricted chains alone.
        pcs: Number of principal components to predict; by default as many as `explained` asks for.
        explained: Share of the variance of standardised susceptibilities that the predicted components hold.
        architecture: What lies between activations and coordinates: `one-layer` or `two-layer`, rectified hidden units;
            `gated`, one layer of rectified units times linear ones; `linear`, nothing.
        base: What hidden units add to: the `ridge` regression on the same inputs, which is exact and takes no steps, so
            that training only has to find what it leaves; or nothing, as published.
        expansion: Width of a hidden layer, as a multiple of the width named by `expansion_of`.
        expansion_of: What `expansion` multiplies: the width of the `residual` stream, or of the whole `input`.
        l1: Weight of the mean absolute hidden activation in the loss.
        epochs: Most passes over the training tokens.
        patience: Epochs without a better validation score after which training stops.
        batch_size: Tokens per optimiser step.
        learning_rate: Peak learning rate of AdamW; it falls to zero along a cosine.
        weight_decay: Decoupled weight decay of AdamW.
        validation_share: Share of the training documents that choose the epoch and the ridge penalty.
        precision: Arithmetic of training, in Lightning's words.
        accelerator: What training runs on, in Lightning's words; `auto` takes a GPU if there is one.
        devices: GPUs (or processes, on a processor) that share every batch: of this machine (Lightning's `ddp_spawn`),
            or, with `engine: ray`, of any machines of the cluster (Ray Train).
        threads: Threads in which each of them computes, wherever it is, and in which the accuracy table is made; null
            takes what the process has. On a processor the same bytes come of as many threads only.
        loader_workers: Processes that gather batches for each of them; 0 gathers in the training process itself.
        logger: What records every epoch: a `csv` file, which is always kept, or a live logger as well, which is then
            told of the whole run, too (items per second, seconds of every stage).
        log_folder: Where TensorBoard or Weights & Biases write.
        bootstrap: Resamplings of documents behind every interval of the accuracy table.
        seed: Seed of initial weights, order of tokens, validation documents and resampling.
    """

    estimator: Literal["two-chain", "covariance"] = "two-chain"
    pcs: int | None = None
    explained: float = 0.95
    architecture: Architecture = "one-layer"
    base: Base = "ridge"
    expansion: int = 16
    expansion_of: Literal["residual", "input"] = "residual"
    l1: float = 1e-3
    epochs: int = 40
    patience: int = 6
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 3.0
    validation_share: float = 0.1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    threads: int | None = None
    loader_workers: int = 0
    logger: Literal["csv", "tensorboard", "wandb"] = "csv"
    log_folder: str = "logs"
    bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("expansion", "epochs", "patience", "batch_size", "devices", "bootstrap"):
            _require_at_least(f"aux.{name}", getattr(self, name), 1)
        for name in ("l1", "weight_decay", "loader_workers", "seed"):
            _require_at_least(f"aux.{name}", getattr(self, name), 0)
        for name in ("pcs", "threads"):
            if getattr(self, name) is not None:
                _require_at_least(f"aux.{name}", getattr(self, name), 1)
        if not 0 < self.explained <= 1:
            raise UserError(f"aux.explained must be above 0 and at most 1, got {self.explained}")
        if not self.learning_rate > 0:
            raise UserError(f"aux.learning_rate must be above 0, got {self.learning_rate}")
        if not 0 < self.validation_share < 1:
            raise UserError(f"aux.validation_share must lie between 0 and 1, got {self.validation_share}")

    def hidden_width(self, residual: int, inputs: int) -> int:
        """Width of what is decoded, for a residual stream and an input of these widths."""
        if self.architecture == "linear":
            return inputs
        return self.expansion * (residual if self.expansion_of == "residual" else inputs)


@dataclass(frozen=True)
class UpsampleConfig:
    """Settings of the prediction over the large corpus.

    Args:
        batch_contexts: Contexts per forward pass, at most; 0 takes as many as `model.batch_tokens` allows.
        contexts_per_shard: Contexts in one work item.
        precision: Arithmetic of the matrix products: `float32`, as the activations that the auxiliary model was trained
            on are by default; `bfloat16`, with the residual stream, the norms and the coordinates still in float32;
            `auto`, bfloat16 on a GPU that has it if activations alone are read, and float32 elsewhere. A `model.dtype`
            of half precision stays.
    """

    batch_contexts: int = 0
    contexts_per_shard: int = 256
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        _require_at_least("upsample.batch_contexts", self.batch_contexts, 0)
        _require_at_least("upsample.contexts_per_shard", self.contexts_per_shard, 1)


def _require_at_least(key: str, value: float, least: float) -> None:
    if not value >= least:
        raise UserError(f"{key} must be at least {least}, got {value}")
