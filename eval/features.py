"""Clusters beside the features of a sparse autoencoder on the same tokens: is there a feature for every cluster?

A feature at a threshold is a set of tokens, a cluster is one too: precision is the share of the feature's tokens in the
cluster, recall the share of the cluster's tokens with the feature. Legend: N tokens, F features, C clusters, k active
features per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from scale.errors import UserError

#: Shares of a feature's largest activation above which it counts as on; the best one is taken for every cluster.
THRESHOLDS = (0.0, 0.25, 0.5, 0.75)
#: F1 from which a cluster counts as matched, strict to lax.
MATCHED = (0.7, 0.5, 0.3)
SCHEMA = {"cluster": pl.Int32, "size": pl.Int64, "feature": pl.Int64} | dict.fromkeys(
    ("threshold", "precision", "recall", "f1", "chance"), pl.Float64
)


def match_features(
    labels: np.ndarray, features: Any, *, thresholds: Sequence[float] = THRESHOLDS, seed: int = 0
) -> pl.DataFrame:
    """The best feature of every cluster, by F1.

    Args:
        labels: Cluster of every token (N), -1 for none.
        features: Activations of the features at the same tokens: a scipy sparse matrix or an array (N, F), as SAELens
            encodes, or a pair of arrays (N, k), activations and the numbers of their features, as sparsify does.
        thresholds: Shares of a feature's largest activation above which it counts as on.
        seed: Of the permutation behind `chance`.

    Returns:
        A table of `cluster`, `size`, the best `feature` and its `threshold`, `precision`, `recall` and `f1`, and
        `chance`, the best F1 when the tokens of the clusters are permuted. Feature -1: none is on at any of its tokens.
    """
    activations = as_sparse(features)
    if activations.shape[0] != len(labels):
        raise UserError(f"features: {activations.shape[0]} rows for {len(labels)} labels; give one row per token")
    found = _best(labels, activations, thresholds)
    shuffled = np.random.default_rng(seed).permutation(labels)
    chance = _best(shuffled, activations, thresholds)["f1"]
    return pl.DataFrame({**found, "chance": chance}, schema=SCHEMA).filter(pl.col("size") > 0)


def matched_shares(table: pl.DataFrame, at: Sequence[float] = MATCHED) -> dict[str, dict[str, float]]:
    """Share of the clusters whose best F1 reaches each threshold, and the same by chance."""
    best, chance = (table[name].to_numpy() for name in ("f1", "chance"))
    return {f"{f1:g}": {"matched": float((best >= f1).mean()), "chance": float((chance >= f1).mean())} for f1 in at}


def as_sparse(features: Any) -> sparse.csr_array:
    """Activations as a CSR matrix (N, F) without stored zeros."""
    if isinstance(features, tuple | list):
        found = _from_pair(*(np.asarray(part) for part in features))
    else:
        found = sparse.csr_array(features if sparse.issparse(features) else np.asarray(features))
    if found.nnz and not found.data.min() >= 0:
        raise UserError("features: activations must not be negative or NaN; give them as the encoder writes them")
    found.eliminate_zeros()
    return found


def _from_pair(activations: np.ndarray, numbers: np.ndarray) -> sparse.csr_array:
    if activations.shape != numbers.shape or activations.ndim != 2:
        raise UserError(
            f"features: activations and numbers of features must both be (tokens, k), got {activations.shape} and "
            f"{numbers.shape}"
        )
    rows, active = activations.shape
    shape = (rows, int(numbers.max(initial=-1)) + 1)
    return sparse.csr_array(
        (activations.ravel(), numbers.ravel(), np.arange(0, rows * active + 1, active)), shape=shape
    )


def _best(labels: np.ndarray, activations: sparse.csr_array, thresholds: Sequence[float]) -> dict[str, np.ndarray]:
    count = int(labels.max(initial=-1)) + 1
    inside = np.flatnonzero(labels >= 0)
    member = sparse.csr_array((np.ones(len(inside)), (labels[inside], inside)), shape=(count, len(labels)))
    sizes = np.bincount(labels[inside], minlength=count)
    found = {name: np.zeros(count) for name in ("threshold", "precision", "recall", "f1")}
    feature = np.full(count, -1)
    peaks = activations.max(axis=0).toarray().ravel() if activations.nnz else np.zeros(activations.shape[1])
    for threshold in thresholds:
        on = activations.copy()
        on.data = (on.data > threshold * peaks[on.indices]).astype(np.float64)
        on.eliminate_zeros()
        held = on.sum(axis=0)
        pairs = (member @ on).tocoo()
        row, column = pairs.coords
        scores = 2 * pairs.data / (sizes[row] + held[column])
        order = np.lexsort((-column, scores))  # of equals the first feature, which comes last
        top = dict(zip(row[order].tolist(), order.tolist(), strict=True))
        for cluster, place in top.items():
            if scores[place] > found["f1"][cluster]:
                shared, own = pairs.data[place], column[place]
                values = (threshold, shared / held[own], shared / sizes[cluster], scores[place])
                for name, value in zip(found, values, strict=True):
                    found[name][cluster] = value
                feature[cluster] = own
    return {"cluster": np.arange(count), "size": sizes, "feature": feature, **found}
