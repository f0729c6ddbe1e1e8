"""Clusters of a finished run beside the features of a sparse autoencoder on the same tokens.

    python -m benchmarks.autoencoder runs/demo
    python -m benchmarks.autoencoder runs/demo --features features.npz      (scipy sparse, one row per clustered token)

Without features of one's own, a small top-k autoencoder is trained on the residual stream at one layer of all clustered
tokens. The same match of permuted clusters is chance; that of clusters drawn by target token alone says how much of a
match is the token.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from aux.upsample import PREDICTED
from balmer.runfile import read_run
from eval.autoencoder import Recipe, features_of, train
from eval.features import match_features, matched_shares
from eval.heldout import stream_at
from scale.corpus.stage import read_rows
from scale.store import read_array, read_table


def trained_features(run: Path, layer: int, recipe: Recipe) -> tuple[Any, dict[str, float]]:
    """Features of all clustered rows, and how the autoencoder came out."""
    rows = read_rows(run / "corpus", PREDICTED)
    started = time.monotonic()
    activations = stream_at(read_run(str(run)).model, rows.take(slice(None)), layer)
    found = train(activations, recipe)
    seconds = time.monotonic() - started
    return features_of(found.model, activations), {
        "explained": found.explained, "dead": found.dead, "seconds": round(seconds, 1),
    }  # fmt: skip


def by_target(labels: np.ndarray, tokens: np.ndarray, seed: int) -> np.ndarray:
    """Clusters of the same sizes and target tokens, drawn at random: every member a random occurrence of its token."""
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = order[np.argsort(tokens[order], kind="stable")]
    found = np.empty_like(labels)
    found[np.argsort(tokens, kind="stable")] = labels[shuffled]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--layer", type=int, default=3)
    parser.add_argument("--units", type=int, default=Recipe.features)
    parser.add_argument("--active", type=int, default=Recipe.active)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--out", type=Path, help="a parquet file for the table")
    known = parser.parse_args()
    labels = np.array(read_array(known.run / "clusters" / "labels.npy"))
    tokens = read_table(known.run / "upsampled" / "rows.parquet")["token"].to_numpy()
    facts: dict[str, Any] = {}
    if known.features:
        features: Any = sparse.load_npz(known.features)
    else:
        recipe = Recipe(features=known.units, active=known.active, epochs=known.epochs)
        features, facts = trained_features(known.run, known.layer, recipe)
    table = match_features(labels, features)
    same_tokens = match_features(by_target(labels, tokens, 0), features)
    shares = {"clusters": matched_shares(table), "same targets at random": matched_shares(same_tokens)}
    medians = {name: float(np.median(own["f1"])) for name, own in (("clusters", table), ("same targets", same_tokens))}
    print(json.dumps(facts | {"clusters": len(table), "median_f1": medians, "matched": shares}, indent=1))
    with pl.Config(tbl_rows=20, tbl_cols=10):
        print(table.sort("f1", descending=True).head(20))
    if known.out:
        table.write_parquet(known.out)


if __name__ == "__main__":
    main()
