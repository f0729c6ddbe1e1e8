"""The table of figures taken twice (`eval.twice`): of neighbours, of the run's clusters, of clusters of one half.

Clusters *of one half* are found in the ground truth as one half of the draws measured it, and looked at in that half
(within) and with the other (across): what would be claimed of them, and what is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from cluster.config import ClusterConfig
from cluster.walkgraph import WalkGraph
from eval.bootstrap import Interval
from eval.config import LeakageConfig
from eval.stability import clusters_of, recovery
from eval.support import cluster_support
from eval.twice import Neighbours, Twice, found_again, over_clusters, rare, separations, shared_signal

SCHEMA = {"figure": pl.String, "cluster": pl.Int32} | dict.fromkeys(
    ("within", "within_low", "within_high", "across", "across_low", "across_high", "chance"), pl.Float64
)
ONE_HALF = "clusters of one half: "


@dataclass(frozen=True)
class Measured:
    """Held-out rows: coordinates by halves (N, 2, P), and of every row its document, target token, cell and cluster."""

    halves: np.ndarray
    documents: np.ndarray
    tokens: np.ndarray
    cells: np.ndarray
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> Measured:
        return Measured(*(getattr(self, name)[rows] for name in ("halves", "documents", "tokens", "cells", "labels")))


def neighbour_rows(measured: Measured, config: LeakageConfig) -> list[dict[str, Any]]:
    near = Neighbours.of(measured.halves, measured.documents, config.neighbours)
    asked = {
        "neighbours with the same target": (measured.tokens, np.ones(len(measured.tokens), bool)),
        "neighbours with the same target, rare ones": (measured.tokens, rare(measured.tokens)),
        "neighbours in the same cluster": (measured.labels, measured.labels >= 0),
    }
    return [_row(figure, near.same(classes, of, config)) for figure, (classes, of) in asked.items()]


def cluster_rows(measured: Measured, support: dict[str, pl.DataFrame], config: LeakageConfig) -> list[dict[str, Any]]:
    """Of the run's clusters, `support` within and across: told apart, separation, support; over all and one by one."""
    again = found_again(measured.halves, measured.labels, measured.documents, config)
    whole, shared = separations(measured.halves, measured.labels)
    rows = [
        _row("clusters told apart", again.summary(config)),
        _row("clusters supported", _supported(support, measured.halves, config)),
    ]
    for cluster in np.flatnonzero(~np.isnan(whole)).tolist():
        rows.append(_single("separation", cluster, whole[cluster], shared[cluster]))
        if not np.isnan(again.within[cluster]):
            rows.append(_single("told apart", cluster, again.within[cluster], again.across[cluster], again.chance))
    both = support["within"].join(support["across"], on="cluster", suffix="_across").drop_nulls("effect")
    effects = both.select("cluster", "effect", "effect_across").iter_rows()
    rows += [_single("support", cluster, within, across, 0.0) for cluster, within, across in effects]
    return rows


def half_rows(
    measured: Measured,
    graphs: Sequence[WalkGraph],
    search: ClusterConfig,
    max_conductance: float,
    config: LeakageConfig,
) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Of clusters of one half, and their labels; `graphs` join the neighbours of either half."""
    found = [clusters_of(graph, search, max_conductance) for graph in graphs]
    each = [_of_one_half(measured, graphs, half, labels, search, max_conductance, config)
            for half, labels in enumerate(found)]  # fmt: skip
    return [_row(ONE_HALF + figure, _mean([one[figure] for one in each])) for figure in each[0]], found


def _of_one_half(
    measured: Measured,
    graphs: Sequence[WalkGraph],
    half: int,
    labels: np.ndarray,
    search: ClusterConfig,
    max_conductance: float,
    config: LeakageConfig,
) -> dict[str, Twice | None]:
    own = measured.halves[:, ::-1] if half else measured.halves  # theirs comes first
    again = found_again(own, labels, measured.documents, config, within=((0, 0),))
    support = supports(own, labels, measured.cells, config)
    walked: dict[str, Any] = {"repeats": max(1, config.repeats), "min_members": config.min_members, "seed": config.seed}
    jaccard = [recovery(graphs[h], labels, search, max_conductance, **walked).jaccard for h in (half, 1 - half)]
    recovered = None
    if len(jaccard[0]):
        within, across = (over_clusters(index.mean(axis=1), config) for index in jaccard)
        recovered = Twice(within, across, 0.0)
    return {
        "told apart": again.summary(config),
        "supported": _supported(support, measured.halves, config),
        "found again by walks": recovered,
    }


def supports(
    halves: np.ndarray, labels: np.ndarray, groups: np.ndarray, config: LeakageConfig
) -> dict[str, pl.DataFrame]:
    """Support by the first half alone, and across both. Directions alone count (`cluster_support`)."""
    first, second = (halves[:, half].astype(np.float64) for half in range(2))
    settings: dict[str, Any] = {
        "groups": groups, "directions": True, "permutations": config.permutations,
        "exceedances": config.exceedances, "min_members": config.min_members, "seed": config.seed,
    }  # fmt: skip
    return {
        "within": cluster_support(first, labels, **settings),
        "across": cluster_support(first, labels, second=second, **settings),
    }


def passing(support: pl.DataFrame, config: LeakageConfig) -> pl.Series:
    """Which of the clusters that could be tested are supported."""
    return support["p_corrected"].drop_nulls() < 1 - config.level


def _supported(support: dict[str, pl.DataFrame], halves: np.ndarray, config: LeakageConfig) -> Twice | None:
    """Shares of the clusters; across, none where the halves share no signal at all. By chance none: it is corrected."""
    within, across = (passing(support[name], config).to_numpy().astype(np.float64) for name in ("within", "across"))
    if len(within) == 0:
        return None
    if shared_signal(halves, seed=config.seed) > 1 - config.level:
        across = np.zeros_like(across)
    return Twice(over_clusters(within, config), over_clusters(across, config), 0.0)


def _mean(figures: Sequence[Twice | None]) -> Twice | None:
    """Mean of the halves; the interval is that of a single half, which errs on the wide side."""
    found = [figure for figure in figures if figure is not None]
    if not found:
        return None
    within, across = (
        Interval(*(float(np.mean([getattr(getattr(f, side), end) for f in found])) for end in ("value", "low", "high")))
        for side in ("within", "across")
    )
    return Twice(within, across, float(np.mean([f.chance for f in found])))


def _row(figure: str, twice: Twice | None) -> dict[str, Any]:
    """A row of the table; nulls where the figure could not be taken."""
    if twice is None:
        return dict.fromkeys(SCHEMA) | {"figure": figure}
    ends = (("", "value"), ("_low", "low"), ("_high", "high"))
    values = {name + end: getattr(getattr(twice, name), key) for name in ("within", "across") for end, key in ends}
    return {"figure": figure, "cluster": None, **values, "chance": twice.chance}


def _single(figure: str, cluster: int, within: float, across: float, chance: float | None = None) -> dict[str, Any]:
    found = {"figure": figure, "cluster": cluster, "within": within, "across": across, "chance": chance}
    return dict.fromkeys(SCHEMA) | found
