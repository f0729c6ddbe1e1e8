"""A made run: every table the report reads, in the formats of the run folder, from a few invented texts."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from scale.store import Manifest, write_array, write_manifest, write_shard, write_table

INPUTS = ("activations", "gradients")
STAGES = ("corpus", "chi", "taps", "aux", "upsampled", "clusters", "leakage")
PIECES = re.compile(r"\n[ \t]*| ?\w+| ?[^\w\s]|\s")
HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(2)> \"quoted\" 'single' `tick` \\back ${1+1} </pre> &lt; "
    "שלום עולם مرحبا 🎉👩‍🚀 \x00 \x1b[31m \u2028 \u2029 \u202e reversed \ufffd \u200b end\ttab\r\n"
)
CODE = """
def total(self, values):
    result = 0
    for value in values:
        if value is None:
            continue
        result += value
    return result

class Reader:
    def read(self, path, limit):
        with open(path) as file:
            for line in file:
                self.lines.append(line)
                if len(self.lines) > limit:
                    return None
        return self.lines
"""
TEXTS = {"reader.py": CODE * 12, "hostile.txt": HOSTILE * 24, "total.py": CODE.replace("value", "number") * 12}


@dataclass(frozen=True)
class MadeRun:
    """Stage folders by name, and the tables they were written from."""

    folders: dict[str, Path]
    vocabulary: list[str]
    tokens: np.ndarray
    rows: pl.DataFrame
    labels: np.ndarray
    members: pl.DataFrame
    documents: pl.DataFrame


def _tokenise(texts: Mapping[str, str], length: int) -> tuple[list[str], np.ndarray, pl.DataFrame, pl.DataFrame]:
    pieces = {name: PIECES.findall(text) for name, text in texts.items()}
    vocabulary = sorted({piece for found in pieces.values() for piece in found})
    number = {piece: i for i, piece in enumerate(vocabulary)}
    tokens, contexts, documents = [], [], []
    for document, (name, found) in enumerate(pieces.items()):
        split = ("heldout", "upsample")[document % 2]
        count = len(found) // length
        documents.append({"document": document, "name": name, "split": split, "contexts": count})
        for start in range(0, count * length, length):
            contexts.append({"context": len(contexts), "document": document, "split": split, "start": start})
            tokens.append([number[piece] for piece in found[start : start + length]])
    small = {"document": pl.Int32, "contexts": pl.Int32, "context": pl.Int32, "start": pl.Int32}
    frames = [pl.DataFrame(rows) for rows in (documents, contexts)]
    cast = [frame.cast({k: v for k, v in small.items() if k in frame.columns}) for frame in frames]
    return vocabulary, np.array(tokens, dtype=np.int32), cast[0], cast[1]


def _rows(tokens: np.ndarray, contexts: pl.DataFrame) -> pl.DataFrame:
    count, length = tokens.shape
    context = np.repeat(np.arange(count, dtype=np.int32), length - 1)
    return pl.DataFrame(
        {
            "row": np.arange(len(context), dtype=np.int64),
            "context": context,
            "position": np.tile(np.arange(1, length, dtype=np.int32), count),
            "token": tokens[:, 1:].ravel(),
            "document": contexts["document"].to_numpy()[context],
            "split": contexts["split"].to_numpy()[context],
        }
    )


def _cluster(rows: pl.DataFrame, tokens: np.ndarray, min_size: int, limit: int) -> np.ndarray:
    """A cluster is a predicted token after a preceding token, where the pair is frequent enough."""
    before = tokens[rows["context"].to_numpy(), rows["position"].to_numpy() - 1].astype(np.int64)
    pair = before * (int(tokens.max()) + 1) + rows["token"].to_numpy()
    found, inverse, counts = np.unique(pair, return_inverse=True, return_counts=True)
    ranked = np.argsort(-counts, kind="stable")
    kept = ranked[counts[ranked] >= min_size][:limit]
    number = np.full(len(found), -1, dtype=np.int32)
    number[np.sort(kept)] = np.arange(len(kept), dtype=np.int32)
    return number[inverse]


def _write(folder: Path, stage: str, facts: dict[str, Any], tables: Mapping[str, pl.DataFrame]) -> Path:
    place = folder / stage
    for name, table in tables.items():
        write_table(place / f"{name}.parquet", table)
    write_manifest(place, Manifest(stage, {}, {}, facts))
    return place


def _components(layers: int, heads: int) -> pl.DataFrame:
    named: list[tuple[str, str, int | None, int | None]] = [("embed", "embed", None, None)]
    for layer in range(layers):
        named += [(f"l{layer}h{head}", "head", layer, head) for head in range(heads)]
        named.append((f"l{layer} mlp", "mlp", layer, None))
    named.append(("unembed", "unembed", None, None))
    table = pl.DataFrame(named, schema=["component", "kind", "layer", "head"], orient="row", infer_schema_length=None)
    reliability = np.linspace(0.4, 0.9, len(named))
    return table.cast({"layer": pl.Int32, "head": pl.Int32}).with_columns(
        llc=pl.lit(3.0),
        reliability=pl.Series(reliability),
        reliability_covariance=pl.Series(reliability / 2),
        draws=pl.lit(200, pl.Int32),
        excluded_chains=pl.Series([1] + [0] * (len(named) - 1), dtype=pl.Int32),
    )


def _accuracy(pcs: int) -> pl.DataFrame:
    pearson = np.linspace(0.82, 0.35, pcs)
    return pl.DataFrame(
        {
            "pc": np.arange(pcs, dtype=np.int32),
            "explained": 0.3 * 0.8 ** np.arange(pcs),
            "pearson": pearson,
            "pearson_low": pearson - 0.03,
            "pearson_high": pearson + 0.03,
            "r2": pearson**2,
            "ridge_pearson": pearson - 0.06,
            "ceiling": np.linspace(0.93, 0.6, pcs),
            "pearson_shared": pearson + 0.04,
        }
    )


def _leakage(layers: int) -> pl.DataFrame:
    level = {"truth": (0.15, 0.05), "prediction": (0.27, 0.19), "permuted": (0.01, 0.01)}
    found = []
    for layer in range(layers):
        bump = np.sin((layer + 1) / (layers + 1) * np.pi)
        for versus, values in level.items():
            for metric, value in zip(("cka", "jaccard"), values, strict=True):
                v = float(value * bump)
                found.append(
                    {"layer": layer, "metric": metric, "versus": versus, "value": v, "low": v * 0.9, "high": v * 1.1}
                )
    found = [{"input": name, **row} for name in INPUTS for row in found]
    return pl.DataFrame(found).cast({"layer": pl.Int32})


def _profiles(clusters: int, components: list[str], rng: np.random.Generator) -> pl.DataFrame:
    mean = rng.normal(0, 0.5, (clusters, len(components))) + np.where(
        rng.random((clusters, len(components))) < 0.1, -2.5, 0
    )
    return pl.DataFrame(
        {
            "cluster": np.repeat(np.arange(clusters, dtype=np.int32), len(components)),
            "component": components * clusters,
            "mean": mean.ravel(),
        }
    )


def make_run(
    folder: Path,
    texts: Mapping[str, str] = TEXTS,
    length: int = 32,
    min_size: int = 20,
    limit: int = 10**9,
    layers: int = 4,
    heads: int = 4,
    pcs: int = 12,
) -> MadeRun:
    """Write every stage the report reads."""
    rng = np.random.default_rng(1)
    vocabulary, tokens, documents, contexts = _tokenise(texts, length)
    rows = _rows(tokens, contexts)
    labels = _cluster(rows, tokens, min_size, limit)
    members = rows.with_columns(cluster=pl.Series(labels), distance=pl.Series(rng.gamma(4, 1, len(rows))))
    members = members.filter(pl.col("cluster") >= 0).sort("cluster", "row")
    members = members.select("cluster", "row", "context", "position", "token", "document", "split", "distance")
    sizes = np.bincount(members["cluster"].to_numpy())
    count = len(sizes)
    conductance = np.sort(rng.uniform(0.05, 0.55, count))[np.argsort(np.argsort(-sizes + rng.normal(0, 20, count)))]
    clusters = pl.DataFrame(
        {
            "cluster": np.arange(count, dtype=np.int32),
            "size": sizes.astype(np.int32),
            "conductance": conductance,
            "volume": sizes * 45.0,
            "seed_row": members.group_by("cluster").first().sort("cluster")["row"],
        }
    )
    rejected = pl.DataFrame(
        {
            "seed_row": np.arange(80),
            "size": rng.integers(20, 2000, 80).astype(np.int32),
            "conductance": rng.uniform(0.55, 0.95, 80),
            "accepted": False,
        }
    )
    accepted = clusters.select("seed_row", "size", "conductance", accepted=pl.lit(True))
    null = pl.DataFrame(
        {"size": rng.integers(20, 2000, 60).astype(np.int32), "conductance": rng.uniform(0.7, 0.97, 60)}
    )
    p = np.where(np.arange(count) % 4 == 3, 0.4, 0.001)
    support = pl.DataFrame(
        {
            "cluster": np.arange(count, dtype=np.int32),
            "members": (sizes // 2).astype(np.int32),
            "effect": np.where(np.arange(count) % 5 == 4, -0.6, np.where(p < 0.05, 1.2, 0.1)),
            "p": p / 2,
            "p_corrected": p,
        }
    )
    components = _components(layers, heads)
    facts = {
        "rows": len(rows),
        "clusters": count,
        "clustered_share": len(members) / len(rows),
        "max_conductance": 0.6,
        "expected_false": 0.4,
        "recall": 1.0,
        "epsilon": 1e-5,
        "alpha": 0.001,
        "k": 45,
    }
    write_array(folder / "corpus" / "tokens.npy", tokens)
    write_array(folder / "clusters" / "labels.npy", labels)
    words = pl.DataFrame({"token": np.arange(len(vocabulary), dtype=np.int32), "text": vocabulary})
    _write(
        folder,
        "corpus",
        {"model": "made/model", "corpus": "made texts"},
        {"documents": documents, "contexts": contexts, "vocabulary": words},
    )
    _write(folder, "chi", {}, {"components": components})
    _write(folder, "taps", {"layers": list(range(layers)), "width": 8}, {})
    _write(folder, "aux", {}, {"accuracy": _accuracy(pcs)})
    centres = rng.normal(0, 2, (max(1, count), pcs))
    coordinates = np.where(labels[:, None] >= 0, centres[labels], 0) + rng.normal(0, 0.5, (len(rows), pcs))
    for shard, part in enumerate(np.array_split(coordinates.astype(np.float32), 3)):
        write_shard(folder / "upsampled", f"{shard:05d}", {"coordinates": part})
    _write(folder, "upsampled", {}, {"rows": rows})
    _write(
        folder,
        "clusters",
        facts,
        {
            "clusters": clusters,
            "members": members,
            "null": null,
            "sweeps": pl.concat([accepted.select(rejected.columns), rejected]),
        },
    )
    _write(
        folder,
        "leakage",
        {"verdict": {name: {"status": "visible", "sentence": f"Leakage of {name}."} for name in INPUTS}},
        {
            "leakage": _leakage(layers),
            "support": support.filter(pl.col("cluster") % 7 != 6),
            "profiles": _profiles(count, components["component"].to_list(), rng),
        },
    )
    return MadeRun({stage: folder / stage for stage in STAGES}, vocabulary, tokens, rows, labels, members, documents)


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    """The made run with the default texts; read it, do not write to it."""
    return make_run(tmp_path_factory.mktemp("made_run"))


@pytest.fixture(scope="session")
def run_maker() -> Callable[..., MadeRun]:
    """The maker itself, for runs that a test wants to change."""
    return make_run
