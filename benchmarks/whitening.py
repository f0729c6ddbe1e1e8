"""What principal components should be scaled to before vectors are clustered, by what holds across independent draws.

    python -m benchmarks.whitening RUN_FOLDER

Three scales: unit variance (`plain`), the variance of their signal (`reliability`), or their own (`none`). Told for
each: the share of a measured token's neighbours, among tokens of other documents measured at other draws, that have its
target token; the clusters among the run's predictions, and how many of them held-out ground truth supports; and planted
groups in noisy coordinates.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import numpy as np

from aux.basis import Basis
from aux.config import AuxConfig
from aux.stage import read_measured
from benchmarks.parts.inputs import read_run
from benchmarks.parts.neighbours import Metric, find, same_target
from cluster.config import ClusterConfig, Scale
from cluster.search import Clusters, cluster_vectors, in_threads
from cluster.stage import fitted, transformed
from cluster.whitening import Whitening, whiten
from eval.support import cluster_support
from scale.store import read_table

METRIC: dict[Scale, Metric] = {"plain": "whitened", "reliability": "signal", "none": "euclidean"}
LEVEL = 0.05
PLANTED_SIZES = (30, 40, 50, 60, 80, 100, 120, 150, 200, 300)
PLANTED_CLOUD, PLANTED_WIDTH = 8000, 24


def neighbours(run: Path, tokens: int, queries: int) -> None:
    """Of measured tokens, across halves of the draws."""
    measured = read_run(run, tokens, 0)
    count = len(measured.tokens)
    asked = np.sort(np.random.default_rng(0).choice(count, min(queries, count), replace=False))
    for scale, metric in METRIC.items():
        found = find(measured.parts["covariance"], measured.components, measured.documents, asked, metric)
        for group, one in same_target(found, measured.tokens, measured.documents, 0).items():
            if one is not None:
                print(f"  {scale:12s} {group:5s} across {one.across}, permuted {one.permuted:.4f}", flush=True)


def clusters(run: Path, scale: Scale, heldout: bool, null_seeds: int, threads: int) -> None:
    """Of the run's predictions, and what held-out ground truth says of them beyond their target tokens."""
    basis = Basis.load(run / "aux")
    truth = read_measured(run / "chi", run / "taps", basis, AuxConfig(), "heldout").coordinates.astype(np.float64)
    config = ClusterConfig(whitening=scale, null_seeds=null_seeds)
    whitening = fitted(run / "upsampled", run / "aux", config)
    vectors = transformed(run / "upsampled", whitening)[: len(truth) if heldout else None]
    found = cluster_vectors(vectors, config, in_threads(threads), spread=whitening.spread)
    tokens = read_table(run / "upsampled" / "rows.parquet")["token"].to_numpy()[: len(truth)]
    table = cluster_support(truth[:, 0], found.labels[: len(truth)], groups=tokens, second=truth[:, 1], directions=True)
    supported = table.filter(table["p_corrected"] < LEVEL)
    covered, effect = int(supported["members"].sum()), float(np.median(table["effect"].to_numpy()))
    print(f"  {scale:12s} {len(found.table)} clusters, {(found.labels >= 0).mean():.3f} of the tokens, threshold "
          f"{found.max_conductance:.3f}; {len(supported)} of {len(table)} tested are supported, median effect "
          f"{effect:.2f}; {covered} of {len(truth)} held-out tokens lie in supported ones",
          flush=True)  # fmt: skip


def planted(noise: float, scale: Scale, threads: int, seed: int) -> float:
    """Share of planted groups recovered at a Jaccard index of 0.8: signal falls from PC to PC, noise does not."""
    rng = np.random.default_rng(seed)
    heights = np.linspace(1.5, 0.3, PLANTED_WIDTH)
    truth = np.repeat(np.arange(-1, len(PLANTED_SIZES)), (PLANTED_CLOUD, *PLANTED_SIZES))
    centres = np.vstack([np.zeros(PLANTED_WIDTH), 1.5 * rng.standard_normal((len(PLANTED_SIZES), PLANTED_WIDTH))])
    within = np.where(truth < 0, 1.0, 0.3)[:, None]
    signal = heights * (centres[truth + 1] + within * rng.standard_normal((len(truth), PLANTED_WIDTH)))
    halves = signal[:, None] + noise * rng.standard_normal((len(truth), 2, PLANTED_WIDTH))
    reliability = np.array([np.corrcoef(halves[:, 0, c], halves[:, 1, c])[0, 1] for c in range(PLANTED_WIDTH)])
    vectors = halves[:, 0].astype(np.float32)
    whitening = scaled(whiten(vectors), scale, np.maximum(reliability, 0))
    config = ClusterConfig(null_seeds=100, epsilon=2e-5)
    found = cluster_vectors(whitening.transform(vectors), config, in_threads(threads), spread=whitening.spread)
    return float(np.mean([best_match(found, truth == group) >= 0.8 for group in range(len(PLANTED_SIZES))]))


def scaled(whitening: Whitening, scale: Scale, reliability: np.ndarray) -> Whitening:
    if scale == "reliability":
        return whitening.to_signal(reliability)
    return whitening.to_variance() if scale == "none" else whitening


def best_match(found: Clusters, group: np.ndarray) -> float:
    """The largest Jaccard index of a group with any cluster."""
    sizes = np.bincount(found.labels[found.labels >= 0])
    shared = np.bincount(found.labels[(found.labels >= 0) & group], minlength=len(sizes))
    return float((shared / (sizes + group.sum() - shared)).max(initial=0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=4_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heldout", action="store_true", help="cluster the held-out predictions alone, all measured")
    parser.add_argument("--null-seeds", type=int, default=ClusterConfig.null_seeds)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--which", nargs="*", default=["neighbours", "planted", "clusters"])
    arguments = parser.parse_args()
    if "neighbours" in arguments.which:
        print("neighbours with the same target token, measured covariance")
        neighbours(arguments.run, arguments.tokens, arguments.queries)
    if "planted" in arguments.which:
        for noise in (0.1, 0.3, 0.5):
            for scale in get_args(Scale):
                shares = [planted(noise, scale, arguments.threads, seed) for seed in range(arguments.seeds)]
                print(f"planted, noise {noise}: {scale:12s} {np.mean(shares):.2f} of the groups", flush=True)
    if "clusters" in arguments.which:
        print("clusters of the run's predictions")
        for scale in get_args(Scale):
            clusters(arguments.run, scale, arguments.heldout, arguments.null_seeds, arguments.threads)


if __name__ == "__main__":
    main()
