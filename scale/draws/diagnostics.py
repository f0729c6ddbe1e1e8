"""How well the chains of one component mixed, from the loss at their draws (Vehtari et al. 2021, through ArviZ).

Legend: losses (chains, draws). What cannot be told (too few draws, constant or non-finite losses) is NaN.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

#: ArviZ splits chains in two and wants this many draws of each piece.
FEWEST = 4
NAN = float("nan")


def library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ announces its next release at import
        import arviz
    return arviz


@dataclass(frozen=True)
class Mixing:
    """How draws depend on the draws before them.

    Args:
        rhat: Rank-normalised split R-hat; of a single chain, its first half against its second.
        ess: Rank-normalised effective number of draws, of all chains together.
        autocorrelation_time: Draws that are worth one independent draw when a mean is taken: draws / effective draws.
        lag1: Correlation of a draw with the next within its chain, averaged over chains.
    """

    rhat: float
    ess: float
    autocorrelation_time: float
    lag1: float


def mixing(losses: np.ndarray) -> Mixing:
    chains, draws = losses.shape
    if draws < FEWEST or not np.isfinite(losses).all() or np.ptp(losses, axis=1).min() == 0:
        return Mixing(NAN, NAN, NAN, NAN)
    arviz = library()
    halves = losses if chains > 1 else losses[:, : draws // 2 * 2].reshape(2, -1)
    return Mixing(
        rhat=float(arviz.rhat(halves)) if halves.shape[1] >= FEWEST else NAN,
        ess=float(arviz.ess(losses)),
        autocorrelation_time=losses.size / float(arviz.ess(losses, method="mean")),
        lag1=float(np.mean([arviz.autocorr(chain)[1] for chain in losses])),
    )


def chain_statistics(phi: np.ndarray, nbeta: float) -> dict[str, float]:
    """What the chains that did not diverge say of their component; ``phi`` (chains, draws): L(w) - L(w*).

    The local learning coefficient is nβ E_C[φ] (Lau et al. 2023); its standard error is that of the mean over chains.
    The tilt, nβ sd(φ), says how far the loss bends the posterior away from the Gaussian N(w*, I/γ): the ratio of their
    densities, exp(-nβφ), varies by it (in its logarithm) from draw to draw.
    """
    means = phi.mean(axis=1) if phi.size else np.empty(0)
    error = float(means.std(ddof=1)) / len(means) ** 0.5 if len(means) > 1 else NAN
    mean = float(phi.mean()) if phi.size else NAN
    coefficient = {"mean_phi": mean, "llc": nbeta * mean, "llc_error": nbeta * error}
    tilt = nbeta * float(phi.std()) if phi.size else NAN
    return {**coefficient, "tilt": tilt, **vars(mixing(phi)), "draws": phi.size}
