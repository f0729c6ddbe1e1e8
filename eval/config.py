"""Settings of the checks that say how far to believe predicted susceptibilities and clusters."""

from __future__ import annotations

from dataclasses import dataclass

from scale.errors import UserError


@dataclass(frozen=True)
class LeakageConfig:
    """Settings of leakage and cluster support.

    Args:
        k: Nearest neighbours compared by the Jaccard index.
        tokens: Most held-out tokens that leakage is measured on; whole documents are drawn until it is reached.
        groups: Groups of documents left out in turn for the interval of CKA.
        bootstrap: Resamplings of documents for the interval of the Jaccard index.
        level: Coverage of the intervals.
        permutations: Matched random sets per cluster, for its support.
        min_members: Fewest measured members of a cluster whose support is tested.
        seed: Seed of the document sample, the permuted control, resampling and the random sets.
    """

    k: int = 50
    tokens: int = 20_000
    groups: int = 20
    bootstrap: int = 1000
    level: float = 0.95
    permutations: int = 999
    min_members: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {"k": 1, "tokens": 10, "groups": 2, "bootstrap": 1, "permutations": 1, "min_members": 2, "seed": 0}
        for name, least in lowest.items():
            if not getattr(self, name) >= least:
                raise UserError(f"leakage.{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.level < 1:
            raise UserError(f"leakage.level must lie between 0 and 1, got {self.level}")
        if self.k >= self.tokens:
            raise UserError(f"leakage.k must be below leakage.tokens, got {self.k} and {self.tokens}")
