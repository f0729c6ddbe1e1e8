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

from aux.accuracy import accuracy, noise_ceiling
from aux.basis import Basis, BasisAccumulator
from aux.config import AuxConfig
from aux.model import AuxModel
from aux.ridge import Ridge, RidgeAccumulator
from aux.rows import validation_rows
from aux.training import Trained, train
from scale.chi import assembled_blocks
from scale.engine import Workspace
from scale.estimate import Estimator
from scale.store import Shards, read_manifest, read_table, write_table

TRAINING = "training"


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


def fit_basis(chi: Path, config: AuxConfig) -> Basis:
    """The basis of the truth split, measured by all chains."""
    fit = BasisAccumulator(read_table(chi / "components.parquet")["component"].to_list())
    for block in chi_blocks(chi, config.estimator, "truth"):
        fit.update(block.mean(axis=1))
    return fit.result(pcs=config.pcs, explained=config.explained)


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
        documents=rows.filter(polars.col("split") == split)["document"].to_numpy(),
    )


def fit_ridge(measured: Measured, half: int | None, config: AuxConfig) -> Ridge:
    """The linear reference, on the same training and validation documents as the auxiliary model."""
    target = measured.target(half)
    validation = validation_rows(measured.documents, config.validation_share, config.seed)
    widths = (measured.inputs[0].shape[1], target.shape[1])
    fit, check = RidgeAccumulator(*widths), RidgeAccumulator(*widths)
    start = 0
    for block in measured.inputs:
        rows = slice(start, start + len(block))
        held = validation[rows]
        fit.update(block[~held], target[rows][~held])
        if held.any():
            check.update(block[held], target[rows][held])
        start += len(block)
    return fit.result(check)


@torch.no_grad()
def predict(model: AuxModel, blocks: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([model(torch.from_numpy(np.array(block))).numpy() for block in blocks])


def fit(measured: Measured, half: int | None, config: AuxConfig, width: int, work: Workspace, name: str) -> Trained:
    """Train, or go on training, one model; its checkpoint lies in the stage's unfinished folder."""
    folder = work.folder / TRAINING / name
    folder.mkdir(parents=True, exist_ok=True)
    return train(
        measured.inputs,
        [measured.target(half)],
        measured.documents,
        config,
        residual_width=width,
        folder=folder,
    )


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
    table = polars.DataFrame(
        {
            "pc": np.arange(len(basis.variances), dtype=np.int32),
            "explained": basis.explained,
            "pearson": across.pearson,
            "pearson_low": across.pearson_low,
            "pearson_high": across.pearson_high,
            "r2": across.r2,
            "ridge_pearson": baseline.pearson,
            "ceiling": ceiling,
            "pearson_shared": shared.pearson,
        }
    )
    return table, {
        "pearson": across.mean_pearson,
        "pearson_low": across.mean_pearson_low,
        "pearson_high": across.mean_pearson_high,
        "pearson_shared": shared.mean_pearson,
        "ridge_pearson": baseline.mean_pearson,
        "ceiling": float(ceiling.mean()),
    }


def make(work: Workspace, config: AuxConfig) -> dict[str, Any]:
    chi, taps = work.inputs["chi"], work.inputs["taps"]
    width = read_manifest(taps).facts["width"]
    basis = fit_basis(chi, config)
    truth = read_measured(chi, taps, basis, config, "truth")
    heldout = read_measured(chi, taps, basis, config, "heldout")
    work.progress.say(f"  {len(basis.variances)} PCs; training on one half of the chains, to be judged by the other")
    judged = fit(truth, 0, config, width, work, "judged").model
    table, means = accuracy_table(basis, judged, fit_ridge(truth, 0, config), heldout, config)
    work.progress.say("  training on both halves, to be kept")
    kept = fit(truth, None, config, width, work, "kept")
    basis.save(work.folder)
    kept.model.save(work.folder)
    write_table(work.folder / "accuracy.parquet", table)
    shutil.rmtree(work.folder / TRAINING)
    return {**means, "estimator": config.estimator, "pcs": len(table), "training": kept.facts}
