"""Tables of a run with as many clusters as asked for, made from a seed without a model: what the report reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from scale.store import Manifest, write_array, write_manifest, write_shard, write_table

STAGES = ("corpus", "chi", "taps", "aux", "upsampled", "clusters", "leakage")
SYLLABLES = [
    a + b
    for a in ("", "b", "d", "f", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr")
    for b in ("a", "e", "i", "o", "u", "er", "on")
]


@dataclass(frozen=True)
class Made:
    """How large the run is. Every cluster has the smallest size, and more by a long tail."""

    clusters: int
    mean_size: int = 50
    smallest: int = 20
    clustered: float = 0.7
    vocabulary: int = 20_000
    length: int = 128
    pcs: int = 16
    layers: int = 6
    heads: int = 8
    seed: int = 0


def words(count: int, rng: np.random.Generator) -> list[str]:
    """Distinct pieces of words, half of them with a blank before."""
    found: dict[str, None] = {"\n": None, ",": None, ".": None, " (": None, ")": None}
    while len(found) < count:
        made = "".join(SYLLABLES[i] for i in rng.integers(len(SYLLABLES), size=rng.integers(1, 4)))
        found[made if rng.random() < 0.5 else f" {made}"] = None
    return list(found)


def place_labels(made: Made, rng: np.random.Generator) -> np.ndarray:
    """The cluster of every row, -1 for none."""
    extra = rng.pareto(1.6, made.clusters)
    sizes = made.smallest + (extra / extra.mean() * (made.mean_size - made.smallest)).astype(np.int64)
    per_context = made.length - 1
    rows = -(-int(sizes.sum() / made.clustered) // per_context) * per_context
    labels = np.full(rows, -1, np.int32)
    labels[: sizes.sum()] = np.repeat(np.arange(made.clusters, dtype=np.int32), sizes)
    rng.shuffle(labels)
    return labels


def place_tokens(made: Made, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tokens (contexts, length): members have one of their cluster's few tokens, often after one it prefers."""
    per_context = made.length - 1
    contexts = len(labels) // per_context
    shape = (contexts, made.length)
    tokens = np.minimum(rng.zipf(1.25, shape) - 1, made.vocabulary - 1).astype(np.int32)
    own = (rng.random((made.clusters, 3)) ** 3 * made.vocabulary).astype(np.int32)
    before = (rng.random((made.clusters, 2)) ** 3 * made.vocabulary).astype(np.int32)
    grid = labels.reshape(contexts, per_context)
    choice = np.minimum(rng.geometric(0.7, grid.shape) - 1, 2)
    tokens[:, 1:] = np.where(grid >= 0, own[grid, choice], tokens[:, 1:])
    free = np.concatenate([np.ones((contexts, 1), bool), grid[:, :-1] < 0], axis=1)
    liked = (grid >= 0) & free & (rng.random(grid.shape) < 0.8)
    tokens[:, :-1] = np.where(liked, before[grid, choice % 2], tokens[:, :-1])
    return tokens


def write_corpus(folder: Path, made: Made, tokens: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """The corpus stage; returns its contexts."""
    count = len(tokens)
    document = (np.arange(count) // 4).astype(np.int32)
    split = np.where(document % 10 == 0, "heldout", "upsample")
    contexts = pl.DataFrame({"context": np.arange(count, dtype=np.int32), "document": document, "split": split})
    numbers = np.unique(document)
    names = [f"collection-{number % 37:02d}" for number in numbers]
    documents = pl.DataFrame(
        {
            "document": numbers,
            "name": names,
            "split": split[::4],
            "contexts": pl.Series([4] * len(numbers), dtype=pl.Int32),
        }
    )
    texts = words(made.vocabulary, rng)
    write_array(folder / "corpus" / "tokens.npy", tokens)
    write_table(folder / "corpus" / "contexts.parquet", contexts)
    write_table(folder / "corpus" / "documents.parquet", documents)
    write_table(
        folder / "corpus" / "vocabulary.parquet",
        pl.DataFrame({"token": np.arange(made.vocabulary, dtype=np.int32), "text": texts}),
    )
    finish(folder, "corpus", {"model": "made/model", "corpus": "made text"})
    return contexts


def finish(folder: Path, stage: str, facts: dict[str, Any]) -> None:
    write_manifest(folder / stage, Manifest(stage, {}, {}, facts))


def write_upsampled(
    folder: Path, made: Made, tokens: np.ndarray, contexts: pl.DataFrame, labels: np.ndarray, rng: np.random.Generator
) -> pl.DataFrame:
    """Rows and coordinates; clusters of a neighbourhood, and neighbourhoods of a region, lie together."""
    count, length = tokens.shape
    context = np.repeat(np.arange(count, dtype=np.int32), length - 1)
    rows = pl.DataFrame({
        "row": np.arange(len(labels), dtype=np.int64), "context": context,
        "position": np.tile(np.arange(1, length, dtype=np.int32), count), "token": tokens[:, 1:].ravel(),
        "document": contexts["document"].to_numpy()[context], "split": contexts["split"].to_numpy()[context],
    })  # fmt: skip
    write_table(folder / "upsampled" / "rows.parquet", rows)
    groups = max(2, round(np.sqrt(made.clusters)))
    regions = rng.normal(size=(max(2, round(np.sqrt(groups))), made.pcs)) * 3
    middles = regions[rng.integers(len(regions), size=groups)] + rng.normal(size=(groups, made.pcs)) * 1.2
    centres = (
        middles[rng.integers(groups, size=made.clusters)] + rng.normal(size=(made.clusters, made.pcs)) * 0.6
    ).astype(np.float32)
    block = 1_000_000
    for i, start in enumerate(range(0, len(labels), block)):
        own = labels[start : start + block]
        at = np.where(own[:, None] >= 0, centres[own], rng.normal(size=(len(own), made.pcs)) * 3).astype(np.float32)
        write_shard(
            folder / "upsampled", f"{i:05d}", {"coordinates": at + rng.normal(size=at.shape).astype(np.float32) * 0.2}
        )
    finish(folder, "upsampled", {"rows": len(rows)})
    return rows


def write_clusters(folder: Path, rows: pl.DataFrame, labels: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    """Members in order of cluster and distance, the clusters, sweeps and the null."""
    members = rows.with_columns(cluster=pl.Series(labels), distance=pl.Series(rng.gamma(4, 1, len(rows)))).filter(
        pl.col("cluster") >= 0
    )
    members = members.sort("cluster", "distance").select(
        "cluster", "row", "context", "position", "token", "document", "split", "distance"
    )
    clusters = (
        members.group_by("cluster").agg(size=pl.len().cast(pl.Int32), seed_row=pl.col("row").first()).sort("cluster")
    )
    clusters = clusters.with_columns(
        conductance=pl.Series(rng.beta(4, 6, len(clusters)) * 0.6), volume=pl.col("size") * 45.0
    )
    place = folder / "clusters"
    write_array(place / "labels.npy", labels)
    write_table(place / "members.parquet", members)
    write_table(place / "clusters.parquet", clusters)
    drawn = {"size": rng.integers(20, 2000, 1000).astype(np.int32), "conductance": rng.uniform(0.7, 0.97, 1000)}
    write_table(place / "null.parquet", pl.DataFrame(drawn))
    write_table(place / "sweeps.parquet", pl.DataFrame({"seed_row": np.arange(1000), **drawn, "accepted": False}))
    facts = {
        "clusters": len(clusters),
        "members": len(members),
        "clustered_share": float((labels >= 0).mean()),
        "max_conductance": 0.6,
    }
    finish(
        folder, "clusters", {**facts, "expected_false": 0.4, "recall": 0.97, "epsilon": 1e-6, "alpha": 0.001, "k": 45}
    )
    return clusters


def components(made: Made) -> pl.DataFrame:
    """Heads and MLPs of every layer, and both ends of the model."""
    named: list[tuple[str, str, int | None, int | None]] = [("embed", "embed", None, None)]
    for layer in range(made.layers):
        named += [(f"l{layer}h{head}", "head", layer, head) for head in range(made.heads)]
        named.append((f"l{layer} mlp", "mlp", layer, None))
    named.append(("unembed", "unembed", None, None))
    schema = {"component": pl.String, "kind": pl.String, "layer": pl.Int32, "head": pl.Int32}
    table = pl.DataFrame(named, schema=schema, orient="row")
    spread = pl.Series(np.linspace(0.4, 0.9, len(named)))
    fixed = {"llc": 3.0, "rhat": 1.01, "ess": 120.0, "draws": 200, "excluded_chains": 0}
    return table.with_columns(
        reliability=spread, reliability_covariance=spread, **{k: pl.lit(v) for k, v in fixed.items()}
    )


def accuracy(pcs: int) -> pl.DataFrame:
    """An auxiliary model that is good at the first PCs and worse at the last."""
    pearson = np.linspace(0.82, 0.35, pcs)
    columns = {"explained": 0.3 * 0.8 ** np.arange(pcs), "pearson": pearson, "r2": pearson**2}
    spread = {"pearson_low": pearson - 0.03, "pearson_high": pearson + 0.03, "pearson_shared": pearson + 0.04}
    limits = {"ridge_pearson": pearson - 0.05, "ceiling": np.linspace(0.93, 0.6, pcs)}
    return pl.DataFrame({"pc": np.arange(pcs, dtype=np.int32), **columns, **spread, **limits})


def write_belief(folder: Path, made: Made, clusters: pl.DataFrame, rng: np.random.Generator) -> None:
    """chi, taps, aux and leakage."""
    table = components(made)
    names = table["component"].to_list()
    write_table(folder / "chi" / "components.parquet", table)
    finish(folder, "chi", {})
    finish(folder, "taps", {"layers": list(range(made.layers))})
    write_table(folder / "aux" / "accuracy.parquet", accuracy(made.pcs))
    finish(folder, "aux", {})
    count = len(clusters)
    loud = np.where(rng.random((count, len(names))) < 0.05, -2.5, 0.0)
    mean = (rng.normal(0, 0.5, (count, len(names))) + loud).ravel()
    ids = clusters["cluster"].to_numpy()
    write_table(
        folder / "leakage" / "profiles.parquet",
        pl.DataFrame(
            {"cluster": np.repeat(ids, len(names)), "component": np.tile(np.array(names), count), "mean": mean}
        ),
    )
    p = rng.choice([0.001, 0.3], count, p=[0.8, 0.2])
    support = pl.DataFrame(
        {
            "cluster": ids,
            "members": clusters["size"] // 10,
            "effect": rng.gamma(2, 1, count),
            "p": p / 2,
            "p_corrected": p,
        }
    )
    write_table(folder / "leakage" / "support.parquet", support.filter(pl.Series(rng.random(count) < 0.9)))
    finish(folder, "leakage", {})


def make_tables(folder: Path, made: Made) -> dict[str, Path]:
    """Write every stage that the report reads; their folders by name."""
    rng = np.random.default_rng(made.seed)
    labels = place_labels(made, rng)
    tokens = place_tokens(made, labels, rng)
    contexts = write_corpus(folder, made, tokens, rng)
    rows = write_upsampled(folder, made, tokens, contexts, labels, rng)
    write_belief(folder, made, write_clusters(folder, rows, labels, rng), rng)
    return {stage: folder / stage for stage in STAGES}
