"""A run beside its controls: numbers in, a table's rows and sentences out.

A control does *as well* as the run by support if the share of its clusters that held-out ground truth supports is not
clearly smaller (Fisher's exact test, one-sided). Whatever is found there is found without what the control lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import fisher_exact

from eval.agreement import best_matches

RUN = "run"
CLEAR = 0.05


@dataclass(frozen=True)
class Outcome:
    """What a run or a control came to.

    Args:
        name: "run" or the control's.
        clusters, tested, supported: Numbers of clusters.
        median_size: Of the clusters; NaN if there are none.
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


def sentences(run: Outcome, controls: Sequence[Outcome]) -> list[str]:
    """One for the run, one for each control."""
    return [f"The run: {_counts(run)}.", *(_sentence(run, control) for control in controls)]


def _sentence(run: Outcome, control: Outcome) -> str:
    found = f"Control {control.name}: {_counts(control)}"
    if not np.isnan(control.overlap):
        found += f"; the run's clusters are matched by its own with a mean Jaccard index of {control.overlap:.2f}"
    if not run.tested or not control.tested:
        return f"{found}. Too few could be tested to compare their support."
    if control.p < CLEAR:
        return f"{found}. The run's clusters are supported more often (p = {control.p:.2g})."
    return (
        f"{found}. By support it does as well as the run (p = {control.p:.2g}): support alone does not tell them apart."
    )


def _counts(own: Outcome) -> str:
    told = "" if np.isnan(own.told_apart) else f", told apart across draws at a rate of {own.told_apart:.2f}"
    return (
        f"{own.clusters} clusters with {100 * own.clustered_share:.1f}% of the tokens, ground truth supports "
        f"{own.supported} of {own.tested} that could be tested{told}"
    )
