"""Which part of χ speaks: the covariance, the shift of means, or two-chain χ, judged on a finished run.

    python -m benchmarks.parts RUN_FOLDER [--out FOLDER] [--markdown]
        [--tokens 50000] [--queries 4000] [--metric cosine] [--leakage-tokens 20000] [--threads 1] [--seed 0]

Asks of each part: how well is it measured, are neighbours across independent draws alike, in target token and in known
classes of Python source, how close is it to the activations, are its clusters found again at other draws; and of every
two parts: have they the same PCs, neighbours, clusters. Prints tables, in the form of docs/estimators.md with
--markdown, and writes parts.json and parts.svg into --out. The run folder is only read; its stages corpus, chi and taps
are needed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.estimators.figure import save
from benchmarks.parts.bases import LEADING, Measurement, levelled, measurement, shared_variance
from benchmarks.parts.classes import CLASSES
from benchmarks.parts.clusters import between, labels_of
from benchmarks.parts.clusters import chance as chance_agreement
from benchmarks.parts.figure import draw
from benchmarks.parts.inputs import Measured, read_activations, read_facts, read_run
from benchmarks.parts.leakage import coordinates, leakage
from benchmarks.parts.neighbours import (
    METRICS,
    K,
    Neighbours,
    find,
    lift,
    overlaps,
    permuted_candidates,
    rare,
    same_target,
)
from benchmarks.parts.tables import page
from eval.heldout import sample_documents
from scale.errors import UserError
from scale.store import write_json

Record = dict[str, Any]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    return None if value is None else asdict(value)


def measured_well(measured: Measured) -> dict[str, Measurement]:
    say("principal components")
    return {name: measurement(halves, measured.components) for name, halves in measured.parts.items()}


def subspaces(measured: Measured, seed: int) -> Record:
    pairs, by_chance = shared_variance(measured.parts, measured.components, seed)
    return {"leading": LEADING, "pairs": named(pairs), "chance": by_chance}


def named(pairs: dict[tuple[str, str], Any]) -> list[Record]:
    return [{"first": one, "second": two, "value": value} for (one, two), value in pairs.items()]


def all_neighbours(measured: Measured, queries: np.ndarray, options: argparse.Namespace) -> dict[str, Neighbours]:
    found = {}
    for name, halves in measured.parts.items():
        say(f"neighbours: {name}, {len(queries)} of {len(measured.tokens)} tokens asked")
        found[name] = find(halves, measured.components, measured.documents, queries, options.metric)
    return found


def targets_of(measured: Measured, found: dict[str, Neighbours], seed: int) -> Record:
    each = {name: same_target(one, measured.tokens, measured.documents, seed) for name, one in found.items()}
    return {name: {key: plain(one) for key, one in target.items()} for name, target in each.items()}


def neighbourhoods(measured: Measured, found: dict[str, Neighbours], seed: int) -> Record:
    pairs, by_chance = overlaps(found, seed)
    return {
        "targets": targets_of(measured, found, seed),
        "rare_share": float(rare(measured.tokens).mean()),
        "overlaps": named(pairs),
        "chance": by_chance,
    }


def alike(measured: Measured, level: float, seed: int) -> Measured:
    """All parts with as much noise as the worst measured of them, so that it is not noise that tells them apart."""
    say(f"noise added until the leading PCs of the halves correlate by {level:.2f}")
    parts = {name: levelled(halves, measured.components, level, seed) for name, halves in measured.parts.items()}
    return replace(measured, parts=parts)


def classes(measured: Measured, found: dict[str, Neighbours], noisy: dict[str, Neighbours], seed: int) -> list[Record]:
    wrong = {name: permuted_candidates(one, len(measured.tokens), seed) for name, one in found.items()}
    return [
        {
            "class": name,
            "share": float((measured.classes == number).mean()),
            **{
                key: {
                    part: plain(lift(one, measured.classes, measured.documents, number)) for part, one in lists.items()
                }
                for key, lists in (("lift", found), ("levelled", noisy), ("permuted", wrong))
            },
        }
        for number, name in enumerate(CLASSES)
    ]


def leakages(folder: Path, measured: Measured, most: int, seed: int) -> list[Record]:
    rows = np.arange(len(measured.rows))
    if len(rows) > most:
        rows = sample_documents(measured.documents, most, seed)
    say(f"leakage: {len(rows)} of {len(measured.tokens)} tokens, whole documents")
    activations = read_activations(folder, measured.rows[rows])
    placed = {name: coordinates(halves[rows], measured.components) for name, halves in measured.parts.items()}
    return [
        {"layer": layer, "tokens": len(rows)}
        | {name: asdict(leakage(one, values, seed)) for name, one in placed.items()}
        for layer, values in activations.items()
    ]


def clusters(measured: Measured, options: argparse.Namespace) -> Record:
    found = {}
    for name, halves in measured.parts.items():
        say(f"clusters: {name}, either half")
        found[name] = [labels_of(halves, half, measured.components, options.threads) for half in range(2)]
    pairs = {(one, two): between(found[one], found[two]) for one in found for two in found}
    return {
        "parts": {
            name: {
                "clusters": [int(labels.max(initial=-1)) + 1 for labels in halves],
                "clustered": [float((labels >= 0).mean()) for labels in halves],
            }
            for name, halves in found.items()
        },
        "pairs": named(
            {pair: dict(zip(("across", "within"), map(asdict, both), strict=True)) for pair, both in pairs.items()}
        ),
        "chance": asdict(chance_agreement(list(found.values()), options.seed)),
    }


def judge(options: argparse.Namespace) -> Record:
    measured = read_run(options.run, options.tokens, options.seed)
    count = len(measured.tokens)
    queries = np.sort(np.random.default_rng(options.seed).choice(count, min(options.queries, count), replace=False))
    facts = {
        **read_facts(options.run),
        "tokens": count,
        "of_tokens": measured.available,
        "documents": len(np.unique(measured.documents)),
        "components": len(measured.components),
        "queries": len(queries),
        "metric": options.metric,
        "k": K,
        "seed": options.seed,
    }
    well, shared = measured_well(measured), subspaces(measured, options.seed)
    level = min(one.mean_leading for one in well.values())
    found = all_neighbours(measured, queries, options)
    noisy = all_neighbours(alike(measured, level, options.seed), queries, options)
    return {
        "run": facts,
        "parts": {name: asdict(one) for name, one in well.items()},
        "level": level,
        "subspaces": shared,
        "neighbours": neighbourhoods(measured, found, options.seed),
        "levelled": targets_of(measured, noisy, options.seed),
        "classes": classes(measured, found, noisy, options.seed),
        "leakage": leakages(options.run, measured, options.leakage_tokens, options.seed),
        "clusters": clusters(measured, options),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--out", type=Path, help="folder for parts.json and parts.svg; nothing is written without it")
    parser.add_argument("--markdown", action="store_true", help="tables as docs/estimators.md has them")
    parser.add_argument("--tokens", type=int, default=50_000, help="most tokens, of whole documents")
    parser.add_argument("--queries", type=int, default=4_000, help="tokens whose neighbours are looked for")
    parser.add_argument("--metric", choices=METRICS, default="cosine", help="of neighbours, over the PCs")
    parser.add_argument("--leakage-tokens", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=1, help="of the search for clusters")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        record = judge(options)
        print(page(record, options.markdown))
        if options.out is not None:
            write_json(options.out / "parts.json", record)
            save(draw(record), options.out / "parts.svg")
    except UserError as error:
        print(f"benchmarks.parts: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
