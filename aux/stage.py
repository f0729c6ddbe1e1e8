"""Stage `aux`: the basis, the auxiliary model, and how good it is.

Reads chi/ and taps/. Writes the basis, the model and ``accuracy.parquet``. Two models are trained on the truth split:
one on the measurement by one half of the chains alone, which is judged on held-out documents by the other half, and one
on both halves, which is kept. Judging the kept one would need a third, independent measurement.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars
import torch

from aux.accuracy import PearsonAccumulator, accuracy, noise_ceiling
from aux.basis import Basis, BasisAccumulator
from aux.config import AuxConfig
from aux.logs import LOG_FILE
from aux.model import AuxModel
from aux.moments import row_blocks
from aux.ridge import Ridge, fit_ridge
from aux.rows import ShardedRows, validation_rows
from aux.targets import read_targets, write_targets
from aux.threads import computing_in
from aux.training import Trained, train
from scale.answers import Answer
from scale.chi.estimate import Estimator
from scale.chi.stage import assembled_blocks
from scale.engine import Workspace
from scale.store import Shards, read_manifest, read_table, replace_atomically, write_table

TRAINING = "training"
TARGETS = "targets"
TOGETHER = "together"
#: Hidden activations, in numbers, that are held at once where a model is judged.
JUDGED = 2**28
#: A PC whose measurement by one half agrees with that by the other less than this says little of a predictor.
RELIABLE = 0.3


def block_splits(sizes: Sequence[int], splits: np.ndarray) -> list[str]:
    """The split of every shard of the given sizes; a shard holds one split only."""
    starts = np.cumsum([0, *sizes[:-1]])
    return [str(splits[start]) for start in starts]


def chi_blocks(chi: Path, estimator: Estimator, split: str) -> Iterator[np.ndarray]:
    """χ (rows, 2, C) of one split, shard by shard."""
    sizes = [len(block) for block in Shards(chi).blocks("loss")]
    owners = block_splits(sizes, read_table(chi / "rows.parquet")["split"].to_numpy())
    return (block for block, owner in zip(assembled_blocks(chi, estimator), owners, strict=True) if owner == split)


def tap_blocks(taps: Path, splits: np.ndarray, split: str) -> list[np.ndarray]:
    """Memory-mapped taps of one split, shard by shard."""
    blocks = list(Shards(taps).blocks("taps"))
    owners = block_splits([len(block) for block in blocks], splits)
    return [block for block, owner in zip(blocks, owners, strict=True) if owner == split]


def accumulate(chi: Path, config: AuxConfig) -> BasisAccumulator:
    """The truth split, measured by all chains."""
    fit = BasisAccumulator(read_table(chi / "components.parquet")["component"].to_list())
    for block in chi_blocks(chi, config.estimator, "truth"):
        fit.update(block.mean(axis=1))
    return fit


def fit_basis(chi: Path, config: AuxConfig) -> Basis:
    """The basis of the truth split."""
    return accumulate(chi, config).result(pcs=config.pcs, explained=config.explained)


def split_documents(chi: Path, split: str) -> np.ndarray:
    """The document of every row of one split."""
    return read_table(chi / "rows.parquet").filter(polars.col("split") == split)["document"].to_numpy()


@dataclass(frozen=True)
class Measured:
    """One split: taps in shards, coordinates (rows, 2, P) by halves, and the document of every row."""

    inputs: list[np.ndarray]
    coordinates: np.ndarray
    documents: np.ndarray

    def target(self, half: int | None) -> np.ndarray:
        """The coordinates measured by one half of the chains, or by both."""
        return self.coordinates.mean(axis=1) if half is None else self.coordinates[:, half]


def read_measured(chi: Path, taps: Path, basis: Basis, config: AuxConfig, split: str) -> Measured:
    rows = read_table(chi / "rows.parquet")
    blocks = []
    for block in chi_blocks(chi, config.estimator, split):
        halves = [basis.coordinates(block[:, half]) for half in range(2)]
        blocks.append(np.stack(halves, axis=1).astype(np.float32))
    return Measured(
        inputs=tap_blocks(taps, rows["split"].to_numpy(), split),
        coordinates=np.concatenate(blocks),
        documents=split_documents(chi, split),
    )


@dataclass(frozen=True)
class Truth:
    """What is trained on, of any size: activations and coordinates memory-mapped, each in shards of their own."""

    inputs: list[np.ndarray]
    targets: Path
    documents: np.ndarray

    def target(self, half: int | None) -> list[np.ndarray]:
        """The coordinates measured by one half of the chains, or by both."""
        return read_targets(self.targets, half)


def read_truth(chi: Path, taps: Path, basis: Basis, config: AuxConfig, folder: Path) -> Truth:
    """The truth split; its coordinates are written into ``folder``, unless they are there."""
    write_targets(folder, chi_blocks(chi, config.estimator, "truth"), basis)
    return open_truth(chi, taps, folder)


def open_truth(chi: Path, taps: Path, folder: Path) -> Truth:
    """The truth split, its coordinates as they were written."""
    splits = read_table(chi / "rows.parquet")["split"].to_numpy()
    return Truth(tap_blocks(taps, splits, "truth"), folder, split_documents(chi, "truth"))


def linear_reference(truth: Truth, half: int | None, config: AuxConfig) -> Ridge:
    """Ridge regression, on the same training and validation documents as the auxiliary model."""
    validation = validation_rows(truth.documents, config.validation_share, config.seed)
    return fit_ridge(ShardedRows(truth.inputs), ShardedRows(truth.target(half)), validation)


@torch.no_grad()
def predict(model: AuxModel, blocks: Sequence[np.ndarray]) -> np.ndarray:
    rows = max(1, JUDGED // model.shape.hidden)
    parts = [part for block in blocks for part in row_blocks(block, rows)]
    return np.concatenate([model(torch.from_numpy(np.array(part))).numpy() for part in parts])


def trained(chi: Path, taps: Path, stage: Path, name: str, half: int | None, config: AuxConfig, width: int) -> Answer:
    """Train, or go on training, one model on what lies in these folders; its checkpoint is in the stage's own."""
    truth = open_truth(chi, taps, stage / TARGETS)
    folder = stage / TRAINING / name
    folder.mkdir(parents=True, exist_ok=True)
    found = train(truth.inputs, truth.target(half), truth.documents, config, residual_width=width, folder=folder)
    return found.answer()


def fit(work: Workspace, name: str, half: int | None, config: AuxConfig, width: int) -> Trained:
    """Where the engine has the devices for it."""
    arguments = {
        "chi": work.inputs["chi"], "taps": work.inputs["taps"], "stage": work.folder, "name": name, "half": half,
        "config": config, "width": width,
    }  # fmt: skip
    answer = work.engine.together(trained, config.devices, arguments, work.folder / TOGETHER, reads=(TARGETS,))
    return Trained.of(answer)


def accuracy_table(
    basis: Basis, judged: AuxModel, ridge: Ridge, heldout: Measured, config: AuxConfig
) -> tuple[polars.DataFrame, dict[str, float]]:
    """Accuracy per PC on held-out documents of models trained on half 0: judged by half 1, and by half 0 itself."""
    prediction = predict(judged, heldout.inputs)
    linear = np.concatenate([ridge.predict(block) for block in heldout.inputs])
    other, same = heldout.target(1), heldout.target(0)
    seeds = {"bootstrap": config.bootstrap, "seed": config.seed}
    across = accuracy(prediction, other, heldout.documents, **seeds)
    baseline = accuracy(linear, other, heldout.documents, **seeds)
    shared = accuracy(prediction, same, heldout.documents, **seeds)
    ceiling = noise_ceiling(same, other, length=1)
    measured = PearsonAccumulator(other.shape[1]).update(same, other).result().pearson
    reliable = measured > RELIABLE
    table = polars.DataFrame(
        {
            "pc": np.arange(len(basis.variances), dtype=np.int32),
            "explained": basis.explained,
            "pearson": across.pearson,
            "pearson_low": across.pearson_low,
            "pearson_high": across.pearson_high,
            "r2": across.r2,
            "ridge_pearson": baseline.pearson,
            "ridge_low": baseline.pearson_low,
            "ridge_high": baseline.pearson_high,
            "ceiling": ceiling,
            "measured_pearson": measured,
            "pearson_shared": shared.pearson,
        }
    )
    return table, {
        "pearson": across.mean_pearson,
        "pearson_low": across.mean_pearson_low,
        "pearson_high": across.mean_pearson_high,
        "pearson_shared": shared.mean_pearson,
        "ridge_pearson": baseline.mean_pearson,
        "ridge_low": baseline.mean_pearson_low,
        "ridge_high": baseline.mean_pearson_high,
        "ceiling": float(ceiling.mean()),
        "measured_pearson": float(measured.mean()),
        "reliable_pcs": int(reliable.sum()),
        "reached": float((across.pearson[reliable] / ceiling[reliable]).mean()) if reliable.any() else float("nan"),
    }


def make(work: Workspace, config: AuxConfig) -> dict[str, Any]:
    with computing_in(config.threads):
        return made(work, config)


def made(work: Workspace, config: AuxConfig) -> dict[str, Any]:
    chi, taps = work.inputs["chi"], work.inputs["taps"]
    width = read_manifest(taps).facts["width"]
    seen = accumulate(chi, config)
    for group in seen.duplicates():
        work.progress.say(
            f"  {', '.join(group)} have one susceptibility and weigh {len(group)} times as much as another component; "
            "leave all but one out of sgld.components"
        )
    basis = seen.result(pcs=config.pcs, explained=config.explained)
    truth = read_truth(chi, taps, basis, config, work.folder / TARGETS)
    heldout = read_measured(chi, taps, basis, config, "heldout")
    work.progress.say(f"  {len(basis.variances)} PCs; training on one half of the chains, to be judged by the other")
    judged = fit(work, "judged", 0, config, width).model
    table, means = accuracy_table(basis, judged, linear_reference(truth, 0, config), heldout, config)
    work.progress.say("  training on both halves, to be kept")
    kept = fit(work, "kept", None, config, width)
    basis.save(work.folder)
    kept.model.save(work.folder)
    write_table(work.folder / "accuracy.parquet", table)
    for name in ("judged", "kept"):
        replace_atomically(work.folder / TRAINING / name / LOG_FILE, work.folder / f"{name}-{LOG_FILE}")
    for passing in (TRAINING, TARGETS):
        shutil.rmtree(work.folder / passing)
    return {**means, "estimator": config.estimator, "pcs": len(table), "training": kept.facts}
