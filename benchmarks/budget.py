"""More tokens, or more draws for each of them: what a fixed budget of measurements should buy.

    python -m benchmarks.budget RUN_FOLDER [--draws 4 8 16 32] [--judge 32] [--estimator covariance] [--workers 2]

A finished run's truth documents are measured again, with its draws: all of them at the fewest draws, half of them at
twice as many, and so on. From each of these measurements, which cost the same, ridge regression on the run's taps
learns the coordinates of the run's basis, by one half of the chains. It is judged on the held-out documents as the
other half measured them at ``--judge`` draws; beside it, how well a held-out token's own measurement at so many draws
agrees with that. (The share of the budget that goes into sampling, which all have in common, is left out.)
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars

from aux.accuracy import PearsonAccumulator, noise_ceiling
from aux.basis import Basis
from aux.config import AuxConfig
from aux.rows import document_hash
from aux.stage import Measured, fit_basis, tap_blocks
from balmer.config import RunConfig
from balmer.runfile import read_run
from benchmarks.inputs import Sides
from scale.chi.estimate import assemble
from scale.chi.stage import PARTS, measure
from scale.engine import Item, LocalEngine
from scale.progress import Silent
from scale.store import Shards, read_table, shard_name


def first_documents(documents: np.ndarray, share: float) -> list[int]:
    """A share of the documents, in the order of the rows; the same in every larger share."""
    distinct = np.unique(documents)
    ranked = distinct[np.argsort(document_hash(distinct, seed=1), kind="stable")]
    wanted = ranked[: max(2, round(share * len(ranked)))]
    return [int(d) for d in dict.fromkeys(documents) if d in wanted]


@dataclass(frozen=True)
class Bench:
    """A finished run, its basis, and what measures it again."""

    run: Path
    config: RunConfig
    aux: AuxConfig
    basis: Basis
    engine: LocalEngine

    @classmethod
    def of(cls, run: Path, aux: AuxConfig, workers: int) -> Bench:
        return cls(run, read_run(str(run)), aux, fit_basis(run / "chi", aux), LocalEngine(workers))

    def rows(self) -> polars.DataFrame:
        return read_table(self.run / "chi" / "rows.parquet")

    def documents(self, split: str) -> np.ndarray:
        return self.rows().filter(polars.col("split") == split)["document"].to_numpy()

    def measured(self, split: str, share: float, draws: int) -> Measured:
        """A share of a split's documents, measured at so many draws a document."""
        owners = self.documents(split)
        chosen = first_documents(owners, share)
        blocks = [self.basis.coordinates(half) for half in self.halves(chosen, draws)]
        taps = np.concatenate(tap_blocks(self.run / "taps", self.rows()["split"].to_numpy(), split))
        mine = np.isin(owners, chosen)
        return Measured([taps[mine]], np.stack(blocks, axis=1).astype(np.float32), owners[mine])

    def halves(self, documents: Sequence[int], draws: int) -> Iterator[np.ndarray]:
        """χ (rows, C) by each half of the chains."""
        arguments = {
            "corpus": self.run / "corpus",
            "draws": self.run / "draws",
            "model": self.config.model,
            "sgld": self.config.sgld,
            "settings": replace(self.config.probe, draws_per_document=draws),
        }
        items = [
            Item(shard_name(i), measure, {**arguments, "documents": (document,)})
            for i, document in enumerate(documents)
        ]
        mean_phi = read_table(self.run / "chi" / "components.parquet")["mean_phi"].to_numpy()
        with tempfile.TemporaryDirectory() as folder:
            self.engine.run(items, Path(folder), "documents", Silent())
            shards = Shards(Path(folder))
            covariance, shift, full = (shards.stack(key).astype(np.float64) for key in PARTS)
        chi = assemble(covariance, shift, full, mean_phi, self.aux.estimator)
        yield from chi.transpose(1, 0, 2)


@dataclass(frozen=True)
class Bought:
    """What one way to spend the budget gives, each as a mean Pearson correlation over PCs.

    Args:
        draws: Of every document.
        documents: How many of them.
        tokens: In these documents, and learnt from.
        predicted: Held-out tokens, predicted; with the interval over documents.
        measured: Held-out tokens, measured themselves at as many draws.
    """

    draws: int
    documents: int
    tokens: int
    predicted: tuple[float, float, float]
    measured: float


def buy(bench: Bench, draws: int, fewest: int, judge: np.ndarray) -> Bought:
    truth = bench.measured("truth", fewest / draws, draws)
    heldout = bench.measured("heldout", 1.0, draws)
    own = float(PearsonAccumulator(judge.shape[1]).update(heldout.target(0), judge).result().pearson.mean())
    judged = np.stack([heldout.target(0), judge], axis=1)
    sides = Sides(truth, replace(heldout, coordinates=judged), bench.aux)
    columns = np.arange(truth.inputs[0].shape[1])
    ridge, tokens = sides.fitted(columns, 1.0)
    found = sides.judged(ridge, columns)
    predicted = (found.mean_pearson, found.mean_pearson_low, found.mean_pearson_high)
    return Bought(draws, len(np.unique(truth.documents)), tokens, predicted, own)


def table(bought: Sequence[Bought], ceiling: float, judge: int) -> list[str]:
    lines = [
        "| draws a document | documents | tokens | predicted | a measurement of its own |",
        "|---|---|---|---|---|",
    ]
    for one in bought:
        value, low, high = one.predicted
        cells = [f"{one.draws}", f"{one.documents}", f"{one.tokens:,}"]
        cells += [f"{value:.3f} ({low:.3f} to {high:.3f})", f"{one.measured:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", f"ceiling at {judge} draws: {ceiling:.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--judge", type=int, default=32)
    parser.add_argument("--estimator", choices=["two-chain", "covariance"], default="covariance")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    bench = Bench.of(given.run, AuxConfig(estimator=given.estimator), given.workers)
    long = bench.measured("heldout", 1.0, given.judge)
    ceiling = float(noise_ceiling(long.target(0), long.target(1), length=1).mean())
    bought = [buy(bench, draws, min(given.draws), long.target(1)) for draws in sorted(given.draws)]
    print("\n".join(table(bought, ceiling, given.judge)))


if __name__ == "__main__":
    main()
