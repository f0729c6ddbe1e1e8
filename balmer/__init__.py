"""Balmer reads the spectral lines of a language model.

The public functions take arrays and models already in memory and need no run folder. Each is imported when it is first
used, so that `import balmer` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aux.standardize import standardize
    from cluster.graph import knn_graph
    from cluster.neighbours import knn
    from cluster.pagerank import approximate_pagerank
    from cluster.search import find_clusters
    from cluster.sweep import sweep_cut
    from cluster.whitening import Whitening, whiten
    from eval.cka import linear_cka
    from eval.features import match_features
    from eval.influence import influence
    from eval.jaccard import jaccard_knn
    from eval.patterning import pattern
    from eval.support import cluster_support
    from scale.chi.susceptibilities import local_learning_coefficients, susceptibilities

#: Public name -> the module that defines it.
HOMES = {
    "susceptibilities": "scale.chi.susceptibilities",
    "local_learning_coefficients": "scale.chi.susceptibilities",
    "standardize": "aux.standardize",
    "whiten": "cluster.whitening",
    "Whitening": "cluster.whitening",
    "knn": "cluster.neighbours",
    "knn_graph": "cluster.graph",
    "approximate_pagerank": "cluster.pagerank",
    "sweep_cut": "cluster.sweep",
    "find_clusters": "cluster.search",
    "linear_cka": "eval.cka",
    "jaccard_knn": "eval.jaccard",
    "cluster_support": "eval.support",
    "match_features": "eval.features",
    "influence": "eval.influence",
    "pattern": "eval.patterning",
}

__all__ = [
    "Whitening",
    "approximate_pagerank",
    "cluster_support",
    "find_clusters",
    "influence",
    "jaccard_knn",
    "knn",
    "knn_graph",
    "linear_cka",
    "local_learning_coefficients",
    "match_features",
    "pattern",
    "standardize",
    "susceptibilities",
    "sweep_cut",
    "whiten",
]

FOLDERS = ("scale", "aux", "cluster", "eval")


def misplaced() -> dict[str, str]:
    """Folders of ours that another distribution's package of the same name hides, and where that one lies."""
    home = Path(__file__).resolve().parent.parent
    found = {}
    for name in FOLDERS:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if origin != home / name:
            found[name] = str(origin)
    return found


if hidden := misplaced():
    name, place = next(iter(hidden.items()))
    raise ImportError(
        f"balmer: the package {name!r} is taken by {place}; install Balmer into an environment of its own"
    )


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'balmer' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
