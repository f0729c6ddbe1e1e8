"""What a predictor should read, and how many tokens it needs: ridge regressions on a finished run.

    python -m benchmarks.inputs RUN_FOLDER [--shares 0.125 0.25 0.5 1] [--estimator covariance]

Trained on one half of the chains, judged by the other on the held-out documents, as the stage `aux` does. Rows of the
table are kinds of inputs that the run's taps hold, columns are shares of the truth documents; a cell is the mean
Pearson correlation over PCs, the last column its share of the noise ceiling with the 95 % interval over documents.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aux.accuracy import Accuracy, PearsonAccumulator, accuracy, noise_ceiling
from aux.config import AuxConfig
from aux.ridge import Ridge, RidgeAccumulator
from aux.rows import document_hash, validation_rows
from aux.stage import Measured, fit_basis, read_measured
from scale.store import read_manifest
from scale.taps.stage import Taps, read_taps

BOOTSTRAP = 1000


def columns_of(taps: Taps, width: int) -> dict[str, np.ndarray]:
    """The columns of every kind of input, and of kinds together."""
    count = len(taps.layers) * width
    found = {"activations": np.arange(count)}
    if taps.gradients:
        found["gradients"] = np.arange(count, 2 * count + width)
    if taps.responses:
        found["responses"] = np.arange(len(taps.responses)) + sum(map(len, found.values()))
    if len(found) == 3:
        found["gradients and responses"] = np.concatenate([found["gradients"], found["responses"]])
    if len(found) > 1:
        found["all"] = np.arange(taps.columns(width))
    return found


def some_documents(documents: np.ndarray, share: float) -> np.ndarray:
    """Which rows belong to a share of the documents, the same in every larger share."""
    distinct = np.unique(documents)
    order = distinct[np.argsort(document_hash(distinct, seed=1), kind="stable")]
    return np.isin(documents, order[: max(2, round(share * len(order)))])


@dataclass(frozen=True)
class Sides:
    """A run's measured tokens, half 0 to learn from and half 1 to judge by."""

    truth: Measured
    heldout: Measured
    config: AuxConfig

    def fitted(self, columns: np.ndarray, share: float) -> tuple[Ridge, int]:
        """The regression on some columns of a share of the documents, and how many rows it was fitted on."""
        documents = self.truth.documents
        chosen = some_documents(documents, share)
        held = np.zeros(len(documents), dtype=bool)
        held[chosen] = validation_rows(documents[chosen], self.config.validation_share, self.config.seed)
        target = self.truth.target(0)
        sums = {True: RidgeAccumulator(len(columns), target.shape[1])}
        sums[False] = RidgeAccumulator(len(columns), target.shape[1])
        start = 0
        for block in self.truth.inputs:
            rows = np.arange(start, start + len(block))
            for side, sum_ in sums.items():
                own = chosen[rows] & (held[rows] == side)
                if own.any():
                    sum_.update(block[own][:, columns], target[rows[own]])
            start += len(block)
        return sums[False].result(sums[True]), sums[False].moments.count

    def judged(self, ridge: Ridge, columns: np.ndarray) -> Accuracy:
        prediction = np.concatenate([ridge.predict(block[:, columns]) for block in self.heldout.inputs])
        return accuracy(
            prediction, self.heldout.target(1), self.heldout.documents, bootstrap=BOOTSTRAP, seed=self.config.seed
        )


def read_sides(run: Path, config: AuxConfig) -> Sides:
    basis = fit_basis(run / "chi", config)
    truth, heldout = (read_measured(run / "chi", run / "taps", basis, config, split) for split in ("truth", "heldout"))
    return Sides(truth, heldout, config)


def table(sides: Sides, kinds: Mapping[str, np.ndarray], shares: Sequence[float]) -> list[str]:
    same, other = sides.heldout.target(0), sides.heldout.target(1)
    ceiling = float(noise_ceiling(same, other, length=1).mean())
    measured = float(PearsonAccumulator(other.shape[1]).update(same, other).result().pearson.mean())
    lines, heading = [], ""
    for name, columns in kinds.items():
        cells, rows = [], []
        for share in shares:
            ridge, count = sides.fitted(columns, share)
            found = sides.judged(ridge, columns)
            cells.append(f"{found.mean_pearson:.3f}")
            rows.append(f"{count:,} tokens")
        low, high = found.mean_pearson_low / ceiling, found.mean_pearson_high / ceiling
        share_reached = f"{found.mean_pearson / ceiling:.3f} ({low:.3f} to {high:.3f})"
        lines.append(f"| {name} ({len(columns):,}) | {' | '.join(cells)} | {share_reached} |")
        heading = f"| inputs (numbers) | {' | '.join(rows)} | of the ceiling |"
    reference = f"ceiling {ceiling:.3f}; one half's own measurement against the other's {measured:.3f}"
    return [heading, "|---" * (len(shares) + 2) + "|", *lines, "", reference]


def main() -> None:
    parser = argparse.ArgumentParser(description="Ridge regressions by inputs and by number of tokens")
    parser.add_argument("run", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.125, 0.25, 0.5, 1.0])
    parser.add_argument("--estimator", choices=["two-chain", "covariance"], default="covariance")
    given = parser.parse_args()
    taps, width = read_taps(given.run / "taps"), read_manifest(given.run / "taps").facts["width"]
    sides = read_sides(given.run, AuxConfig(estimator=given.estimator))
    for line in table(sides, columns_of(taps, width), sorted(given.shares)):
        print(line)


if __name__ == "__main__":
    main()
