"""The detection score of every cluster's own label, for a batch of clusters at once."""

import numpy as np
import polars as pl

from cluster.report.background import Background
from cluster.report.detection import FOLDS, BigramCounter, Bigrams, mean_score, trial_score
from cluster.report.groups import bounds, cut
from cluster.report.inputs import Inputs
from cluster.report.members import count_shared
from cluster.report.statistics import Label, describe


def count_folds(inputs: Inputs, tokens: np.ndarray, vocabulary: int, block_rows: int) -> list[Bigrams]:
    """Preceding and predicted tokens of all rows, by the fold of their document."""
    counters = [BigramCounter(vocabulary) for _ in range(FOLDS)]
    rows = inputs.table("upsampled", "rows").select("context", "position", "token", "document")
    total = int(rows.select(pl.len()).collect().item())
    for start in range(0, total, block_rows):
        block = rows.slice(start, block_rows).collect()
        context, position, token, document = (column.to_numpy() for column in block.get_columns())
        preceding = tokens[context, position - 1]
        for fold, counter in enumerate(counters):
            own = document % FOLDS == fold
            counter.update(preceding[own], token[own])
    return [counter.result() for counter in counters]


def fold_scores(members: pl.DataFrame, background: Background, folds: list[Bigrams]) -> list[float | None]:
    """Mean over both folds of the score of the label that the other fold's members give; clusters in order."""
    order = members["cluster"].unique().sort()
    scores: list[list[float | None]] = [[] for _ in order]
    place = {cluster: i for i, cluster in enumerate(order)}
    for fold, everywhere in enumerate(folds):
        tried = _columns(members.filter(pl.col("document") % FOLDS == fold))
        for cluster, label in _labels(members.filter(pl.col("document") % FOLDS != fold), background).items():
            if cluster in tried:
                scores[place[cluster]].append(trial_score(label, *tried[cluster], everywhere))
    return [mean_score(found) for found in scores]


def _labels(members: pl.DataFrame, background: Background) -> dict[int, Label]:
    if members.is_empty():
        return {}
    shared = count_shared(members, background)
    sizes = members.group_by("cluster").len().sort("cluster")
    each = zip(sizes.iter_rows(), shared.targets, shared.preceding, shared.sources, strict=True)
    return {cluster: describe(size, *columns) for (cluster, size), *columns in each}


def _columns(members: pl.DataFrame) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Predicted and preceding tokens of each cluster's members."""
    if members.is_empty():
        return {}
    ids = members["cluster"].to_numpy()
    ends = bounds(ids)
    parts = (cut(members[name].to_numpy().astype(np.int64), ends) for name in ("token", "preceding"))
    return dict(zip(ids[ends[:-1]].tolist(), zip(*parts, strict=True), strict=True))
