"""Settings of the clusters stage."""

from dataclasses import dataclass
from typing import Literal, get_args

from scale.errors import UserError

Weights = Literal["self-tuning", "gaussian", "unit"]
Method = Literal["auto", "exact", "lists", "quantised"]
Scale = Literal["plain", "reliability", "none"]
Visited = Literal["support", "best-prefix", "core", "seed"]


@dataclass(frozen=True)
class ClusterConfig:
    """How vectors are whitened, joined into a graph and searched for clusters.

    Args:
        k: Nearest neighbours of each point that become edges of the graph.
        alpha: Teleport probability of the lazy walk; a walk takes about 1/alpha steps.
        epsilon: Residual per unit of degree at which a walk stops; null takes max(1e-7, 28 / volume of the graph).
        min_size: Fewest points of a cluster.
        max_size: Most points of a cluster; null for half of the graph's volume.
        max_conductance: Largest conductance of a cluster; null calibrates it on structureless data.
        expected_false: False clusters to expect in structureless data of the same size, when calibrating.
        visited: What a walk without a cluster rules out as later seeds: its support (the published rule), its
            best-prefix, the core of that (its first min_size points), or the seed alone.
        refine: Walk again from the innermost point of a set before accepting it, and keep the better of both cuts.
        weights: Edge weights by distance: self-tuning, gaussian (one scale for all) or unit.
        whitening: What principal directions are scaled to: plain is unit variance; reliability the variance of their
            signal, as held-out ground truth tells it; none leaves their variance.
        rtol: Directions whose variance is below rtol times the largest are dropped by whitening.
        n_components: Most directions kept by whitening; null keeps all above rtol.
        search: How neighbours are found: exact compares every pair; lists compares points with those in the lists
            nearest to them; quantised does so by short codes and ranks the best again; auto is exact where that is
            affordable, otherwise lists.
        recall: Least share of true neighbours that an approximate search must find, of all points, of the tenth in
            the densest places and of the tenth in the sparsest.
        probes: Lists that an approximate search opens for a point; null takes as many as the recall needs.
        null_seeds: Most walks on structureless data, from which max_conductance is calibrated; 0 for no null.
        round_size: Walks run side by side between two commits; changes the speed and never the clusters.
        seed: Seed of the order of the walks, of the null and of sampling.
    """

    k: int = 45
    alpha: float = 1e-3
    epsilon: float | None = None
    min_size: int = 20
    max_size: int | None = None
    max_conductance: float | None = None
    expected_false: float = 1.0
    visited: Visited = "core"
    refine: bool = True
    weights: Weights = "self-tuning"
    whitening: Scale = "plain"
    rtol: float = 1e-6
    n_components: int | None = None
    search: Method = "auto"
    recall: float = 0.95
    probes: int | None = None
    null_seeds: int = 1000
    round_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for key, least in {"k": 1, "min_size": 1, "null_seeds": 0, "round_size": 1, "seed": 0}.items():
            _require(getattr(self, key) >= least, key, f"at least {least}", self)
        _require(self.n_components is None or self.n_components >= 1, "n_components", "null or at least 1", self)
        sizes = self.max_size is None or self.max_size >= self.min_size
        _require(sizes, "max_size", "null or at least cluster.min_size", self)
        _require(0 < self.alpha < 1, "alpha", "between 0 and 1", self)
        _require(self.epsilon is None or self.epsilon > 0, "epsilon", "null or above 0", self)
        within = self.max_conductance is None or 0 < self.max_conductance <= 1
        _require(within, "max_conductance", "null or above 0 and at most 1", self)
        calibrated = self.null_seeds >= 20 or self.max_conductance is not None
        _require(calibrated, "null_seeds", "at least 20 to calibrate cluster.max_conductance", self)
        _require(self.expected_false > 0, "expected_false", "above 0", self)
        _require(0 <= self.rtol < 1, "rtol", "at least 0 and below 1", self)
        _require(0 < self.recall <= 1, "recall", "above 0 and at most 1", self)
        _require(self.probes is None or self.probes >= 1, "probes", "null or at least 1", self)
        _require(self.search in get_args(Method), "search", f"one of {', '.join(get_args(Method))}", self)
        _require(self.whitening in get_args(Scale), "whitening", f"one of {', '.join(get_args(Scale))}", self)
        _require(self.visited in get_args(Visited), "visited", f"one of {', '.join(get_args(Visited))}", self)
        _require(self.weights in get_args(Weights), "weights", f"one of {', '.join(get_args(Weights))}", self)


def _require(holds: bool, key: str, condition: str, config: ClusterConfig) -> None:
    if not holds:
        raise UserError(f"cluster.{key} must be {condition}, got {getattr(config, key)}")
