"""A run beside its controls: numbers in, a table's rows and sentences out.

A control does *as well* as the run by support if the share of its clusters that held-out ground truth supports is not
clearly smaller (Fisher's exact test, one-sided). Whatever is found there is found without what the control lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from eval.agreement import best_matches

RUN = "run"
CLEAR = 0.05
#: How a control's support compares with the run's.
WORSE, AS_WELL, UNTESTED = "worse", "as well", "untested"
#: What every control does without.
WITHOUT = {
    "nbeta0": "a loss in the posterior",
    "gaussian": "the directions that were drawn",
    "permuted": "the measured susceptibility of each token",
    "activations": "susceptibilities",
}


@dataclass(frozen=True)
class Outcome:
    """What a run or a control came to.

    Args:
        name: "run" or the control's.
        clusters, tested, supported: Numbers of clusters.
        median_size, largest_size: Of the clusters; NaN if there are none.
        clustered_share: Of the tokens.
        overlap: Mean Jaccard index of the run's clusters with their best match here; NaN if the tokens differ.
        told_apart: Rate at which clusters are told apart across independent draws; NaN if it could not be taken.
        p: That the run's clusters are supported no more often than these.
    """

    name: str
    clusters: int
    tested: int
    supported: int
    median_size: float
    largest_size: float
    clustered_share: float
    overlap: float
    told_apart: float
    p: float = float("nan")

    @property
    def supported_share(self) -> float:
        return self.supported / self.tested if self.tested else float("nan")


def overlap(run: np.ndarray, control: np.ndarray) -> float:
    """Mean over the run's clusters of the Jaccard index with the control's best match."""
    return float(best_matches(run, control).mean()) if run.max(initial=-1) >= 0 else float("nan")


def supported_more_often(run: Outcome, control: Outcome) -> float:
    """p-value (one-sided) that the run's clusters are supported no more often than the control's."""
    counts = [[own.supported, own.tested - own.supported] for own in (run, control)]
    return float(fisher_exact(counts, alternative="greater").pvalue)


def verdict(run: Outcome, control: Outcome) -> str:
    """How the control's support compares with the run's."""
    if not run.tested or not control.tested:
        return UNTESTED
    return WORSE if control.p < CLEAR else AS_WELL


def rows(run: Outcome, controls: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Of the table: the figures, what the control is without, the verdict on its support, and that in words."""
    first = asdict(run) | {"supported_share": run.supported_share, "without": None, "verdict": None, "sentence": None}
    return [
        first,
        *(
            asdict(own)
            | {"supported_share": own.supported_share, "without": WITHOUT[own.name]}
            | {"verdict": verdict(run, own), "sentence": judgement(run, own)}
            for own in controls
        ),
    ]


def sentences(run: Outcome, controls: Sequence[Outcome]) -> list[str]:
    """One for the run, one for each control."""
    said = [f"The run: {_counts(run)}."]
    for own in controls:
        matched = ""
        if not np.isnan(own.overlap):
            matched = f"; the run's clusters are matched by its own with a mean Jaccard index of {own.overlap:.2f}"
        said.append(f"Control {own.name}: {_counts(own)}{matched}. {judgement(run, own)}")
    return said


def judgement(run: Outcome, control: Outcome) -> str:
    """What follows from the control, without the figures of a table that stands beside it."""
    support = {
        UNTESTED: "Too few clusters could be tested to compare their support.",
        WORSE: f"Its clusters are supported less often than the run's (p = {control.p:.2g}).",
        AS_WELL: f"By support it does as well as the run (p = {control.p:.2g}): support alone does not show that the "
        f"run's clusters owe anything to {WITHOUT[control.name]}.",
    }[verdict(run, control)]
    return " ".join([support, *_no_evidence(run, control)])


def _no_evidence(run: Outcome, control: Outcome) -> list[str]:
    """Figures that the control reaches as well: a run's are worth nothing by themselves."""
    reached = {
        "number of clusters": control.clusters >= run.clusters > 0,
        "share of tokens in clusters": control.clustered_share >= run.clustered_share > 0,
        "rate of clusters told apart": control.told_apart >= run.told_apart,
    }
    named = [name for name, as_much in reached.items() if as_much]
    if not named:
        return []
    listed = " and ".join(part for part in (", ".join(named[:-1]), named[-1]) if part)
    verb = "is" if len(named) == 1 else "are"
    return [f"The run's {listed} {verb} no evidence: the control has as much, or more."]


def _counts(own: Outcome) -> str:
    told = "" if np.isnan(own.told_apart) else f", told apart across draws at a rate of {own.told_apart:.2f}"
    return (
        f"{own.clusters} clusters with {100 * own.clustered_share:.1f}% of the tokens, ground truth supports "
        f"{own.supported} of {own.tested} that could be tested{told}"
    )
