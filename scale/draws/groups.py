"""What makes the draws that an estimator asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scale.config import SGLDConfig
from scale.draws.chains import ChainGroup, ChainKey, Group
from scale.draws.directions import DirectionGroup
from scale.draws.flow import TangentGroup
from scale.draws.mean_gradient import MeanDirectionGroup
from scale.model.batches import Budget
from scale.model.tail import Tail

KINDS: Mapping[str, type[ChainGroup | DirectionGroup | TangentGroup]] = {
    "plain": ChainGroup,
    "gaussian-gradient": DirectionGroup,
    "mean-gradient": MeanDirectionGroup,
    "tangent-gradient": TangentGroup,
}


def group_of(keys: Sequence[ChainKey], pool: Tail, settings: SGLDConfig, budget: Budget) -> Group:
    """A group of chains, at its start. Of the full model a Gaussian's draws keep L alone, whatever else they keep."""
    kind = KINDS[settings.estimator]
    if kind is MeanDirectionGroup and keys[0].component.kind == "full":
        kind = DirectionGroup
    return kind(keys, pool, settings, budget)
