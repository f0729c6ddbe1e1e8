"""How well the chains of one component mixed, from the loss at their draws (Vehtari et al. 2021, through ArviZ)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mixing:
    """Rank-normalised split R-hat, and the effective number of draws of all chains together."""

    rhat: float
    ess: float


def mixing(losses: np.ndarray) -> Mixing:
    """``losses``: (chains, draws). Too few draws to split a chain, or constant losses, give NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ announces its next release at import
        import arviz

    if losses.shape[0] < 2 or losses.shape[1] < 4 or np.ptp(losses) == 0:
        return Mixing(float("nan"), float("nan"))
    return Mixing(float(arviz.rhat(losses)), float(arviz.ess(losses)))
