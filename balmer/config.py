"""The run file: one section per stage, and where the run lives. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from aux.config import AuxConfig, UpsampleConfig
from cluster.config import ClusterConfig
from cluster.report.config import ReportConfig
from eval.config import LeakageConfig
from scale.config import (
    CalibrateConfig,
    CorpusConfig,
    ModelConfig,
    ProbeConfig,
    RayConfig,
    SGLDConfig,
    TapsConfig,
    check_together,
)
from scale.errors import UserError

Control = Literal["none", "nbeta0", "gaussian", "permuted", "activations"]
CONTROLS: tuple[Control, ...] = get_args(Control)[1:]


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on.

    Args:
        folder: The run folder; made if it does not exist. Also s3://, gs:// or az:// and a path (docs/storage.md).
        scratch: Where a run on object storage keeps its copy on this machine; the user's cache by default.
        engine: Where work items run: in this process (local), or on the machines of a Ray cluster (ray).
        workers: Items at a time in this process, each with a copy of the model, on a GPU of its own as far as there are
            GPUs, or one thread; 0 takes one per GPU, or per processor core where there is none.
        ray: The cluster, and what its workers hold; no stage depends on it.
        control: What is taken out of the pipeline, by a control run (`balmer run --control`); none of a run itself.
        model: The language model.
        corpus: The text.
        sgld: Posterior draws.
        calibrate: What `balmer calibrate` tries to find settings for them; no stage depends on it.
        probe: Susceptibilities at those draws.
        taps: Activations of the measured tokens.
        aux: The auxiliary model.
        upsample: Prediction over the large corpus.
        cluster: The search for clusters.
        leakage: Whether to believe them.
        report: The page to look at.
    """

    folder: str = ""
    scratch: str = ""
    engine: Literal["local", "ray"] = "local"
    workers: int = 1
    ray: RayConfig = field(default_factory=RayConfig)
    control: Control = "none"
    model: ModelConfig = field(default_factory=ModelConfig)
    corpus: CorpusConfig = field(default_factory=lambda: CorpusConfig(kind="python-stdlib"))
    sgld: SGLDConfig = field(default_factory=SGLDConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    taps: TapsConfig = field(default_factory=TapsConfig)
    aux: AuxConfig = field(default_factory=AuxConfig)
    upsample: UpsampleConfig = field(default_factory=UpsampleConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    leakage: LeakageConfig = field(default_factory=LeakageConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UserError(f"workers must be 0 (one per processor core) or more, got {self.workers}")
        if self.engine == "ray" and self.model.device.startswith("cuda:"):
            raise UserError(
                f"model.device: {self.model.device} is a GPU of one machine, and with engine: ray each worker has its "
                f"own; use auto or cuda"
            )
        check_together(self.sgld, self.probe)
        if (self.control == "nbeta0" and self.sgld.nbeta) or (
            self.control == "gaussian" and self.sgld.sampler != "gaussian"
        ):
            raise UserError(f"control: {self.control} is not what sgld says; balmer run --control makes both agree")
