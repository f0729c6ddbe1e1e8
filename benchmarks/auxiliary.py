"""Which auxiliary model predicts a finished run best, judged across independent draws.

    python -m benchmarks.auxiliary RUN_FOLDER --out FOLDER [--seeds 3] [--candidates KEY=VALUE,... ...] [--page]

A candidate is the run's own `aux` settings with a few changed, such as ``architecture=gated,expansion=4``; ``run`` is
the settings unchanged, and the first candidate is what the others are compared with. Each is trained on the measurement
of the truth split by one half of the chains, once per seed, and judged on held-out documents by the other half. The
table gives the mean Pearson correlation over PCs (mean and range over seeds), its difference to the first candidate
with the 95 % interval over documents resampled together, and processor seconds, beside the ridge regression and the
noise ceiling.

Every finished training is a file in --out and is not done again; --page prints the table of what is there. The run
folder is only read; its stages chi and taps are needed.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from aux.accuracy import PearsonAccumulator, noise_ceiling
from aux.config import AuxConfig
from aux.ridge import Ridge
from aux.stage import Measured, Truth, fit_basis, linear_reference, predict, read_measured, read_truth
from aux.training import train
from scale.errors import UserError
from scale.store import read_json, read_manifest, write_json

UNCHANGED = "run"
REFERENCES = "references.json"
CANDIDATES = (
    UNCHANGED,
    "architecture=linear",
    "expansion=4",
    "expansion=32",
    "architecture=gated",
    "architecture=gated,weight_decay=10.0",
    "architecture=two-layer,expansion=4",
    "architecture=two-layer",
    "learning_rate=0.0003",
    "learning_rate=0.003",
    "weight_decay=1.0",
    "weight_decay=10.0",
    "l1=0.0",
    "l1=0.01",
    "batch_size=128",
)
RESAMPLINGS = 2000


def changed(config: AuxConfig, candidate: str) -> AuxConfig:
    """The settings of one candidate."""
    if candidate == UNCHANGED:
        return config
    known = {field.name for field in fields(AuxConfig)}
    pairs = dict(part.partition("=")[::2] for part in candidate.split(","))
    for key in pairs:
        if key not in known:
            raise UserError(f"--candidates: aux has no setting {key!r}; it has {', '.join(sorted(known))}")
    return replace(config, **{key: yaml.safe_load(value) for key, value in pairs.items()})


@dataclass(frozen=True)
class Run:
    """What every candidate is trained on and judged by."""

    config: AuxConfig
    truth: Truth
    heldout: Measured
    width: int


def read_run(folder: Path, passing: Path) -> Run:
    """The run's measured tokens; their coordinates are written into a folder of our own."""
    section = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))["aux"]
    config = AuxConfig(**section)
    chi, taps = folder / "chi", folder / "taps"
    basis = fit_basis(chi, config)
    truth = read_truth(chi, taps, basis, config, passing)
    heldout = read_measured(chi, taps, basis, config, "heldout")
    return Run(config, truth, heldout, read_manifest(taps).facts["width"])


def resampled_scores(prediction: np.ndarray, truth: np.ndarray, documents: np.ndarray) -> list[float]:
    """Mean Pearson of the rows as they are, then of documents drawn with replacement, the same ones at every call."""
    parts = [
        PearsonAccumulator(truth.shape[1]).update(prediction[documents == one], truth[documents == one])
        for one in np.unique(documents)
    ]
    draws = np.random.default_rng(0).integers(0, len(parts), size=(RESAMPLINGS, len(parts)))
    return [_mean_pearson(parts, chosen) for chosen in [np.arange(len(parts)), *draws]]


def _mean_pearson(parts: list[PearsonAccumulator], chosen: np.ndarray) -> float:
    whole = PearsonAccumulator(parts[0].means.shape[1])
    for index in chosen:
        whole.merge(parts[index])
    return float(whole.result().pearson.mean())


def linear_predictions(ridge: Ridge, blocks: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([ridge.predict(block) for block in blocks])


def references(run: Run) -> dict[str, Any]:
    """The ridge regression and the ceiling, which have no seed."""
    ridge = linear_predictions(linear_reference(run.truth, 0, run.config), run.heldout.inputs)
    same, other = run.heldout.target(0), run.heldout.target(1)
    return {
        "ceiling": float(noise_ceiling(same, other, length=1).mean()),
        "scores": resampled_scores(ridge, other, run.heldout.documents),
        "rows": len(run.truth.documents),
        "documents": len(np.unique(run.truth.documents)),
        "heldout_documents": len(np.unique(run.heldout.documents)),
        "pcs": other.shape[1],
    }


def trial(run: Run, candidate: str, seed: int) -> dict[str, Any]:
    """One training and its judgement."""
    config = replace(changed(run.config, candidate), seed=seed)
    started = time.process_time()
    trained = train(run.truth.inputs, run.truth.target(0), run.truth.documents, config, residual_width=run.width)
    seconds = time.process_time() - started
    prediction = predict(trained.model, run.heldout.inputs)
    scores = resampled_scores(prediction, run.heldout.target(1), run.heldout.documents)
    facts = {key: value for key, value in trained.facts.items() if key != "history"}
    return {
        "candidate": candidate,
        "seed": seed,
        "config": asdict(config),
        "seconds": seconds,
        "scores": scores,
    } | facts


def measure(run: Run, candidates: list[str], seeds: int, out: Path) -> None:
    """Every training that is not yet in ``out``; all candidates at one seed before the next seed."""
    if not (out / REFERENCES).exists():
        write_json(out / REFERENCES, references(run))
    for seed in range(seeds):
        for candidate in candidates:
            path = out / f"{candidate}-{seed}.json"
            if not path.exists():
                write_json(path, trial(run, candidate, seed))
                print(f"{candidate}, seed {seed}: {read_json(path)['scores'][0]:.4f}", flush=True)


def page(candidates: list[str], out: Path) -> str:
    """The table, from the files."""
    trials = [read_json(path) for path in sorted(out.glob("*.json")) if path.name != REFERENCES]
    found = {one: {each["seed"]: each for each in trials if each["candidate"] == one} for one in candidates}
    facts, base = read_json(out / REFERENCES), scores_by_seed(found[candidates[0]])
    ridge = dict.fromkeys(base, np.array(facts["scores"]))
    lines = [
        f"{facts['rows']:,} rows of {facts['documents']} documents to train on, {facts['heldout_documents']} held out, "
        f"{facts['pcs']} PCs; mean noise ceiling {facts['ceiling']:.3f}",
        "",
        "| candidate | parameters | seconds | best epoch | mean Pearson (range over seeds) | difference (95 %) |",
        "|---|---|---|---|---|---|",
        f"| ridge | | | | {facts['scores'][0]:.3f} | {difference(ridge, base)} |",
    ]
    return "\n".join(lines + [line(one, trials, base) for one, trials in found.items() if trials])


def scores_by_seed(trials: dict[int, dict[str, Any]]) -> dict[int, np.ndarray]:
    return {seed: np.array(trial["scores"]) for seed, trial in sorted(trials.items())}


def line(candidate: str, trials: dict[int, dict[str, Any]], base: dict[int, np.ndarray]) -> str:
    scores = scores_by_seed(trials)
    plain = [each[0] for each in scores.values()]
    seconds = np.median([trial["seconds"] for trial in trials.values()])
    epochs = "/".join(str(trials[seed]["best_epoch"] + 1) for seed in scores)
    return (
        f"| {candidate} | {trials[min(trials)]['parameters']:,} | {seconds:.0f} | {epochs} "
        f"| {np.mean(plain):.3f} ({min(plain):.3f} to {max(plain):.3f}) | {difference(scores, base)} |"
    )


def difference(scores: dict[int, np.ndarray], base: dict[int, np.ndarray]) -> str:
    """Mean over the seeds that both have, with the interval over the same resampled documents."""
    both = np.mean([scores[seed] - base[seed] for seed in scores.keys() & base.keys()], axis=0)
    low, high = np.quantile(both[1:], [0.025, 0.975])
    return f"{both[0]:+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished trainings")
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="train nothing")
    options = parser.parse_args()
    try:
        if not options.page:
            with TemporaryDirectory() as passing:
                run = read_run(options.run, Path(passing))
                measure(run, options.candidates, options.seeds, options.out)
        print(page(options.candidates, options.out))
    except UserError as error:
        print(f"benchmarks.auxiliary: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
