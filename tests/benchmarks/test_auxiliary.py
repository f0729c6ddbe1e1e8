import numpy as np
import pytest

from aux.accuracy import accuracy
from aux.config import AuxConfig
from benchmarks.auxiliary import REFERENCES, changed, page, resampled_scores
from scale.errors import UserError
from scale.store import write_json


def test_a_candidate_changes_what_it_names_and_nothing_else():
    config = AuxConfig(epochs=7)
    assert changed(config, "run") == config
    found = changed(config, "architecture=two-layer,learning_rate=0.25,pcs=3")
    assert found == AuxConfig(epochs=7, architecture="two-layer", learning_rate=0.25, pcs=3)
    with pytest.raises(UserError, match="no setting 'widht'"):
        changed(config, "widht=3")


def test_scores_resample_whole_documents():
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(30), 20)
    truth = rng.normal(size=(30, 2))[documents] + rng.normal(size=(600, 2))
    prediction = truth + rng.normal(size=(30, 2))[documents] + rng.normal(size=(600, 2))
    scores = resampled_scores(prediction, truth, documents)
    oracle = accuracy(prediction, truth, documents, bootstrap=4000, seed=1)
    assert scores[0] == pytest.approx(oracle.mean_pearson, abs=1e-12)
    interval = np.quantile(scores[1:], [0.025, 0.975])
    np.testing.assert_allclose(interval, [oracle.mean_pearson_low, oracle.mean_pearson_high], atol=0.01)
    np.testing.assert_array_equal(scores, resampled_scores(prediction, truth, documents))


def test_differences_are_taken_seed_by_seed_and_document_by_document(tmp_path):
    """Scores that swing widely from seed to seed and resample to resample, one candidate always ahead by 0.1."""
    rng = np.random.default_rng(0)
    swing = {seed: 0.3 + 0.05 * seed + 0.05 * rng.normal(size=200) for seed in (0, 1, 10)}
    facts = {"scores": swing[0] - 0.2, "ceiling": 0.75}
    counts = dict.fromkeys(("rows", "documents", "heldout_documents", "pcs"), 9)
    write_json(tmp_path / REFERENCES, {**facts, "scores": facts["scores"].tolist(), **counts})
    for name, gain, seeds in (("run", 0.0, (0, 1, 10)), ("l1=0.0", 0.1, (1, 10))):
        for seed in seeds:
            scores = (swing[seed] + gain).tolist()
            trial = {"candidate": name, "seed": seed, "scores": scores, "seconds": 2.0, "best_epoch": seed}
            write_json(tmp_path / f"{name}-{seed}.json", {**trial, "parameters": 1234})
    lines = page(["run", "l1=0.0", "l1=9.0"], tmp_path).splitlines()
    assert len(lines) == 7
    assert "9 PCs; mean noise ceiling 0.750" in lines[0]
    assert "| 1,234 | 2 | 2/11 |" in lines[-1]
    assert lines[-1].endswith("| +0.100 (+0.100 to +0.100) |")
    assert lines[-2].endswith("| +0.000 (+0.000 to +0.000) |")
