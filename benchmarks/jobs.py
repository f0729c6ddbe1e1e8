"""One measurement that both sides carry out: which model, tokens, components, chains and draws.

A `Job` is plain data, so that it can be sent to a process of its own; an `Outcome` is what comes back.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scale.model.operations import Shape

MEBIBYTE = 2**20

#: Layers, width, heads, width of the MLP, vocabulary. (a) is Pythia-14M with a small vocabulary, (b) with its own.
SHAPES = {
    "a": (6, 128, 4, 512, 4096),
    "b": (6, 128, 4, 512, 50304),
    "c": (12, 512, 8, 2048, 8192),
    "large": (24, 2048, 16, 8192, 50304),
}


def shape_of(model: str) -> Shape:
    """Of a shape above, of ``demo``, or of a GPT-NeoX model in a folder."""
    if model in SHAPES:
        return Shape(*SHAPES[model])
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(folder_of(model))
    sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size)
    return Shape(*sizes, config.vocab_size)


def folder_of(model: str) -> str:
    from balmer.demo import MODEL

    return str(MODEL) if model == "demo" else model


@dataclass(frozen=True)
class Job:
    """Settings mean what they mean in `scale.config`; ``peer_loss``, in `benchmarks.ground_truth.peer_devinterp`.

    ``contexts`` are measured; L is taken on ``reference`` other contexts, which the chains are run on as well.
    """

    model: str
    components: tuple[str, ...]
    contexts: int
    reference: int
    context_length: int = 128
    batch: int = 8
    chains: int = 2
    draws: int = 5
    burn_in: int = 1
    between: int = 1
    sampler: str = "rmsprop-sgld"
    step_size: float = 1e-4
    nbeta: float = 30.0
    localization: float = 300.0
    full: bool = True
    device: str = "cpu"
    threads: int = 1
    precision: str = "highest"
    peer_loss: str = "default"
    seed: int = 0
    keep_traces: bool = False

    def __post_init__(self) -> None:
        assert self.contexts % self.batch == 0, "contexts must be a multiple of batch"
        assert self.reference % self.batch == 0, "reference must be a multiple of batch"

    @property
    def tokens(self) -> int:
        return self.contexts * (self.context_length - 1)

    @property
    def total_draws(self) -> int:
        return self.chains * self.draws

    @property
    def steps(self) -> int:
        """Of one chain."""
        return self.burn_in + self.draws * self.between

    @property
    def work(self) -> int:
        """Token·component·draw, of the restricted chains."""
        return self.tokens * self.total_draws * len(self.components)


@dataclass
class Outcome:
    """What one side did and took.

    ``seconds`` are CPU seconds of this process and all its threads on a CPU, wall seconds on a GPU, by phase:
    ``sampling`` and ``evaluation`` of the restricted chains where they can be told apart, ``restricted`` for both
    together, ``full`` for the unrestricted chain. ``bytes`` on disk: ``per draw`` what grows with the draws alone,
    ``per token`` what grows with the measured tokens (and with draws too, if they are all kept), of the restricted
    chains; ``full`` of the unrestricted one. ``covariance`` (with χ's sign), ``shift`` and ``chi``
    are (tokens, components), ``phi`` is E_C[φ].
    """

    seconds: dict[str, float]
    wall: float
    bytes: dict[str, int]
    peak: dict[str, float] = field(default_factory=dict)
    covariance: np.ndarray | None = None
    shift: np.ndarray | None = None
    chi: np.ndarray | None = None
    phi: np.ndarray | None = None
    traces: dict[str, np.ndarray] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "wall": self.wall, "bytes": self.bytes, "peak": self.peak}


def prepare(job: Job) -> None:
    """Threads and precision of matrix products, before anything is computed."""
    import torch

    torch.set_num_threads(job.threads)
    torch.set_float32_matmul_precision(job.precision)


def load_model(job: Job) -> Any:
    """A causal language model of transformers in float32; a shape gets random weights, the same at every call."""
    import torch
    from transformers import AutoModelForCausalLM, GPTNeoXConfig
    from transformers.utils import logging

    if job.model not in SHAPES:
        logging.disable_progress_bar()
        model: Any = AutoModelForCausalLM.from_pretrained(folder_of(job.model), dtype=torch.float32)
        return model.to(job.device)
    shape = Shape(*SHAPES[job.model])
    config = GPTNeoXConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
    )
    torch.manual_seed(0)
    with torch.device(job.device):
        return AutoModelForCausalLM.from_config(config)


def load_tokens(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Contexts to be measured and contexts of reference: random ids, the work does not depend on which."""
    size = (job.contexts + job.reference, job.context_length)
    ids = np.random.default_rng(job.seed).integers(0, shape_of(job.model).vocabulary, size)
    return ids[: job.contexts], ids[job.contexts :]


def few(model: str) -> tuple[str, ...]:
    """One component of each kind, low to high."""
    last = shape_of(model).layers - 1
    return ("embed", "l0h0", f"l{(last + 1) // 2} mlp", f"l{last}h0", "unembed")


def spread(model: str, heads: int | None = None) -> tuple[str, ...]:
    """Embedding, heads and MLP of the lowest, the middle and the highest layer, unembedding."""
    shape = shape_of(model)
    layers = sorted({0, shape.layers // 2, shape.layers - 1})
    kept = min(heads or shape.heads, shape.heads)
    blocks = [f"l{layer}{part}" for layer in layers for part in (*(f"h{i}" for i in range(kept)), " mlp")]
    return ("embed", *blocks, "unembed")


class Clock:
    """Seconds by phase: of the CPU in this process, or of the wall once the GPU has finished."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds = device, dict[str, float]()

    def now(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = self.now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - started


def resident() -> float:
    """MiB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MEBIBYTE


def peak_resident() -> float:
    """MiB that this process has held at most.

    Not from getrusage where /proc is there: on Linux that also remembers the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
