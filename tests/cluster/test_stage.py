"""What the stage reads of the auxiliary model, and the three scales of its vectors."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cluster.config import ClusterConfig, Scale
from cluster.recall import Recall
from cluster.stage import fitted, prediction_reliability, recall_facts, transformed
from scale.store import write_shard, write_table


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Predictions of three PCs in two shards, and how accurate they are."""
    rng = np.random.default_rng(0)
    for name in ("00000", "00001"):
        values = rng.standard_normal((400, 3)) * (3, 2, 1)
        write_shard(tmp_path / "upsampled", name, {"coordinates": values.astype(np.float32)})
    accuracy = pl.DataFrame({"pearson": [0.8, 0.3, -0.1], "ceiling": [0.8, 0.6, 0.5]})
    write_table(tmp_path / "aux" / "accuracy.parquet", accuracy)
    return tmp_path


def test_reliability_is_the_squared_correlation_with_the_truth(run: Path) -> None:
    np.testing.assert_allclose(prediction_reliability(run / "aux"), [1, 0.25, 0])


@pytest.mark.parametrize(("scale", "expected"), [("plain", (1, 1, 1)), ("none", (9, 4, 1)), ("reliability", (9, 1, 0))])
def test_vectors_have_the_scale_that_was_asked_for(run: Path, scale: Scale, expected: tuple[int, ...]) -> None:
    whitening = fitted(run / "upsampled", run / "aux", ClusterConfig(whitening=scale))
    vectors = transformed(run / "upsampled", whitening)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors.var(axis=0), expected, rtol=0.12, atol=0.05)
    np.testing.assert_allclose(vectors.var(axis=0, ddof=1), whitening.spread**2, rtol=1e-4, atol=1e-6)


def test_recall_is_told_in_parts() -> None:
    recall = Recall(np.arange(4), np.array([1, 2, 3, 4], np.float32), np.array([1.0, 0.9, 0.8, 0.5]))
    facts = recall_facts(recall, np.array([0, 0, -1, -1]))
    assert facts == {
        "recall": pytest.approx(0.8),
        "recall_densest": 1.0,
        "recall_sparsest": 0.5,
        "recall_clustered": pytest.approx(0.95),
        "recall_unclustered": pytest.approx(0.65),
        "recall_sample": 4,
    }
