"""Training of the auxiliary model, resumable after any epoch with the same weights bit for bit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aux.checks import check_machine, started_together
from aux.config import AuxConfig
from aux.logs import live_logger
from aux.model import AuxModel, AuxShape
from aux.moments import BLOCK_ROWS, ColumnMoments, Columns
from aux.ridge import fit_ridge
from aux.rows import ShardedRows, validation_rows
from aux.threads import computing_in
from scale.answers import Answer
from scale.errors import UserError

MADE_FROM_FILE = "training.json"
#: Settings that say what the targets are, how they are judged, or how training is watched; its result is the same.
NOT_TRAINING = ("estimator", "pcs", "explained", "bootstrap", "loader_workers", "logger", "log_folder")
#: What the names of weights begin with, among other arrays.
WEIGHTS = "model."


@dataclass(frozen=True)
class Trained:
    """A trained model, which rows validated it, and what is worth recording."""

    model: AuxModel
    validation: np.ndarray
    facts: dict[str, Any]

    def answer(self) -> Answer:
        """All of it, for another process."""
        weights = {f"{WEIGHTS}{name}": tensor.numpy() for name, tensor in self.model.state_dict().items()}
        return Answer({"validation": self.validation, **weights}, {"shape": asdict(self.model.shape), **self.facts})

    @classmethod
    def of(cls, answer: Answer) -> Trained:
        """What `answer` was called on."""
        facts = dict(answer.facts)
        model = AuxModel(AuxShape(**facts.pop("shape")))
        weights = {name: array for name, array in answer.arrays.items() if name.startswith(WEIGHTS)}
        model.load_state_dict({name.removeprefix(WEIGHTS): torch.tensor(array) for name, array in weights.items()})
        return cls(model.eval(), answer.arrays["validation"], facts)


def train(
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    documents: np.ndarray,
    config: AuxConfig,
    *,
    residual_width: int,
    folder: Path | None = None,
    progress: bool = False,
) -> Trained:
    """Train on shards of inputs (rows, I) and targets (rows, P); `documents` names the document of every row.

    With a `folder`, the state after every epoch is kept there in `last.ckpt` (and what it was made from in
    `training.json`): calling again with the same arguments goes on from it, or returns at once if training had
    finished. The files may be deleted afterwards, and `log.csv`, which has a line per epoch, may be kept. The model
    returned is that of the epoch with the best mean Pearson correlation on the validation documents, on the CPU.
    """
    check_machine(replace(config, devices=1) if started_together() else config)
    with computing_in(config.threads):
        return _trained(inputs, targets, documents, config, residual_width, folder, progress)


def _trained(
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    documents: np.ndarray,
    config: AuxConfig,
    residual_width: int,
    folder: Path | None,
    progress: bool,
) -> Trained:
    pairs = ShardedRows(inputs), ShardedRows(targets)
    _check_lengths(*pairs, documents)
    validation = validation_rows(documents, config.validation_share, config.seed)
    statistics = [_column_statistics(rows, ~validation) for rows in pairs]
    model = _fresh_model(statistics, config, residual_width)
    if config.base == "ridge":
        model.start_from(fit_ridge(*pairs, validation))
    if folder is not None:
        _refuse_other_training(folder, {"settings": _settings(config), "data": _fingerprint(documents, statistics)})
    with _place(folder) as place:
        best = _fit(model, pairs, validation, config, place, progress)
    model.load_state_dict(best.weights)
    return Trained(model.cpu().eval(), validation, _facts(model, best, validation, documents))


@contextlib.contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    """Where the state of training lies: a passing folder if none is given."""
    if folder is not None:
        yield folder
    else:
        with tempfile.TemporaryDirectory() as passing:
            yield Path(passing)


def _fit(
    model: AuxModel,
    pairs: tuple[ShardedRows, ShardedRows],
    validation: np.ndarray,
    config: AuxConfig,
    folder: Path,
    progress: bool,
) -> Any:
    """Run Lightning's loop, from the checkpoint in `folder` if there is one; returns the best epoch's keeper."""
    # Lightning takes seconds to import, and nothing else needs it.
    from aux.batches import PairedRows
    from aux.data import AuxData
    from aux.fitting import CHECKPOINT_FILE, AuxLightning, KeepBest
    from aux.trainer import contained, make_trainer

    with contained(), live_logger(config, folder.name) as logger:
        order = {"batch_size": config.batch_size, "seed": config.seed, "workers": config.loader_workers}
        data = AuxData(PairedRows(*pairs), validation, **order)
        keeper = KeepBest(config.patience, folder)
        module = AuxLightning(model, config, total_steps=config.epochs * len(data.training_order))
        trainer = make_trainer(config, keeper, logger, progress)
        checkpoint = folder / CHECKPOINT_FILE
        resumed = str(checkpoint) if checkpoint.exists() else None
        trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
        keeper.restore()
    return keeper


def _check_lengths(inputs: ShardedRows, targets: ShardedRows, documents: np.ndarray) -> None:
    if not len(inputs) == len(targets) == len(documents):
        raise UserError(
            "aux: inputs, targets and documents must have the same rows, "
            f"got {len(inputs)}, {len(targets)} and {len(documents)}"
        )


def _column_statistics(rows: ShardedRows, training: np.ndarray) -> Columns:
    """Column means and standard deviations over the training rows, which must be finite."""
    moments = ColumnMoments(rows.width)
    chosen = np.flatnonzero(training)
    for start in range(0, len(chosen), BLOCK_ROWS):
        moments.update(rows.take(chosen[start : start + BLOCK_ROWS]))
    columns = moments.result()
    wrong = np.flatnonzero(~np.isfinite(columns.mean + columns.std))
    if len(wrong):
        raise UserError(
            f"aux: column {wrong[0]} of the training data ({rows.width} columns) holds values that are not finite"
        )
    return columns


def _fresh_model(statistics: Sequence[Columns], config: AuxConfig, residual_width: int) -> AuxModel:
    """The initial model, which knows the training statistics of inputs and targets."""
    inputs, targets = (len(columns.mean) for columns in statistics)
    hidden = config.hidden_width(residual_width, inputs)
    shape = AuxShape(inputs, hidden, targets, config.architecture, config.base)
    model = AuxModel(shape, seed=config.seed)
    for name, columns in zip(("input", "target"), statistics, strict=True):
        getattr(model, f"{name}_mean").copy_(torch.from_numpy(columns.mean))
        getattr(model, f"{name}_scale").copy_(torch.from_numpy(columns.scale()))
    return model


def _settings(config: AuxConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(config).items() if name not in NOT_TRAINING}


def _fingerprint(documents: np.ndarray, statistics: Sequence[Columns]) -> str:
    """A digest of the documents and the column statistics: it changes with any row of the training data."""
    digest = hashlib.sha256(np.ascontiguousarray(documents, dtype=np.int64).tobytes())
    for columns in statistics:
        digest.update(columns.mean.tobytes() + columns.std.tobytes())
    return digest.hexdigest()


def _refuse_other_training(folder: Path, made_from: dict[str, Any]) -> None:
    """Note what training starts from; stop if the folder holds the state of a different training."""
    path = folder / MADE_FROM_FILE
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        before, now = ({**entry["settings"], "data": entry["data"]} for entry in (earlier, made_from))
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            raise UserError(f"{folder} holds a training with another aux.{changed[0]}: delete the folder to start anew")
        return
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.part")  # several processes may be noting the same
    unfinished.write_text(json.dumps(made_from, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def _facts(model: AuxModel, best: Any, validation: np.ndarray, documents: np.ndarray) -> dict[str, Any]:
    return {
        **asdict(model.shape),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_rows": int((~validation).sum()),
        "validation_rows": int(validation.sum()),
        "validation_documents": len(np.unique(documents[validation])),
        "epochs": len(best.history),
        "best_epoch": best.best_epoch,
        "validation_pearson": best.history[best.best_epoch]["validation_pearson"],
        "history": best.history,
    }
