"""One function in several processes that train together, started by Ray Train on whichever machines have room."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from scale.answers import Answer
from scale.config import RayConfig
from scale.errors import UserError
from scale.ray.pool import living_nodes


def in_each(settings: Mapping[str, Any]) -> None:
    """What runs in every process; the first leaves the answer."""
    answer: Answer = settings["function"](**settings["arguments"])
    if ray.train.get_context().get_world_rank() == 0:
        answer.save(Path(settings["folder"]))


def train_together(
    function: Callable[..., Answer], count: int, arguments: Mapping[str, Any], config: RayConfig, folder: Path
) -> Answer:
    """The answer of the first of ``count`` processes; ``folder``, which all machines see, is theirs alone.

    When one dies all are started again, `ray.attempts` times in all: the function goes on from what it kept.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = float(any(node.gpus >= 1 for node in living_nodes()))
    held = {"CPU": config.cpus_per_worker, **({"GPU": gpus} if gpus else {})}
    trainer: Any = TorchTrainer(
        in_each,
        train_loop_config={"function": function, "arguments": dict(arguments), "folder": str(folder)},
        scaling_config=ScalingConfig(num_workers=count, use_gpu=bool(gpus), resources_per_worker=held),
        run_config=RunConfig(
            name="training",
            storage_path=str(folder / "ray"),
            failure_config=FailureConfig(max_failures=config.attempts - 1),
        ),
    )
    try:
        with warnings.catch_warnings():  # Ray warns of its own settings
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\.")
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        for cause in getattr(error, "worker_failures", {}).values():
            if isinstance(cause, UserError):
                raise cause from None
        raise
    answer = Answer.load(folder)
    shutil.rmtree(folder)
    return answer
