"""Settings of the checks that say how far to believe predicted susceptibilities and clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scale.errors import UserError


@dataclass(frozen=True)
class LeakageConfig:
    """Leakage, noise, support and stability, all on held-out tokens.

    Args:
        layers: "tapped" compares with what predictions are made from; "all" adds the residual stream below every other
            block and at the top, streamed one layer at a time.
        k: Nearest neighbours compared by the Jaccard index.
        tokens: Most held-out tokens that leakage, noise and stability are measured on; whole documents are drawn until
            it is reached.
        groups: Groups of documents left out in turn for the interval of CKA.
        bootstrap: Resamplings of documents for the intervals of means over tokens.
        level: Coverage of the intervals; a cluster is supported at one less it.
        neighbours: Nearest neighbours, in other documents, whose target tokens and clusters are compared.
        splits: Random halves of the documents in which clusters are looked for again.
        permutations: Most matched random sets per cluster, for its support.
        exceedances: A cluster's random sets stop after this many as close as it is.
        cell: Most tokens of one target whose activations count as alike, when random sets are matched.
        min_members: Fewest measured members of a cluster that is tested.
        repeats: Times that every cluster is looked for again, from each kind of change; 0 for no stability.
        seed: Seed of the document sample, the permuted control, resampling, splits and the random sets.
    """

    layers: Literal["tapped", "all"] = "tapped"
    k: int = 50
    tokens: int = 20_000
    groups: int = 20
    bootstrap: int = 1000
    level: float = 0.95
    neighbours: int = 15
    splits: int = 10
    permutations: int = 9999
    exceedances: int = 20
    cell: int = 16
    min_members: int = 5
    repeats: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {
            "k": 1, "tokens": 10, "groups": 2, "bootstrap": 1, "neighbours": 1, "splits": 1, "permutations": 1,
            "exceedances": 1, "cell": 2, "min_members": 2, "repeats": 0, "seed": 0,
        }  # fmt: skip
        for name, least in lowest.items():
            if not getattr(self, name) >= least:
                raise UserError(f"leakage.{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.level < 1:
            raise UserError(f"leakage.level must lie between 0 and 1, got {self.level}")
        if self.k >= self.tokens:
            raise UserError(f"leakage.k must be below leakage.tokens, got {self.k} and {self.tokens}")
