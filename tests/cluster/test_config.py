"""Settings out of range are refused in one line that names the key."""

from typing import Any

import pytest

from cluster.config import ClusterConfig
from scale.errors import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "cluster.k must be at least 1, got 0"),
        ({"alpha": 1.0}, "cluster.alpha must be between 0 and 1, got 1.0"),
        ({"epsilon": 0.0}, "cluster.epsilon must be null or above 0, got 0.0"),
        ({"min_size": 0}, "cluster.min_size must be at least 1, got 0"),
        ({"max_conductance": 1.5}, "cluster.max_conductance must be null or above 0 and at most 1, got 1.5"),
        ({"expected_false": 0.0}, "cluster.expected_false must be above 0, got 0.0"),
        ({"visited": "all"}, "cluster.visited must be one of support, best-prefix, core, seed, got all"),
        ({"weights": "cosine"}, "cluster.weights must be one of self-tuning, gaussian, unit, got cosine"),
        ({"rtol": 1.0}, "cluster.rtol must be at least 0 and below 1, got 1.0"),
        ({"n_components": 0}, "cluster.n_components must be null or at least 1, got 0"),
        ({"search": "hnsw"}, "cluster.search must be one of auto, exact, lists, quantised, got hnsw"),
        ({"probes": 0}, "cluster.probes must be null or at least 1, got 0"),
        ({"whitening": "zca"}, "cluster.whitening must be one of plain, reliability, none, got zca"),
        ({"recall": 0.0}, "cluster.recall must be above 0 and at most 1, got 0.0"),
        ({"round_size": 0}, "cluster.round_size must be at least 1, got 0"),
        ({"seed": -1}, "cluster.seed must be at least 0, got -1"),
        ({"null_seeds": 5}, "cluster.null_seeds must be at least 20 to calibrate cluster.max_conductance, got 5"),
    ],
)
def test_a_value_out_of_range_names_its_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        ClusterConfig(**settings)
    assert str(refused.value) == message


def test_the_null_is_not_needed_with_a_threshold() -> None:
    assert ClusterConfig(null_seeds=0, max_conductance=0.3).null_seeds == 0
