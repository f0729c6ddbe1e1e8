"""A budget spent in several ways: which documents are measured, and that measuring them again is measuring them."""

from pathlib import Path

import numpy as np
import pytest

from aux.config import AuxConfig
from aux.stage import read_measured
from balmer.cli import main
from benchmarks.budget import Bench, buy, first_documents
from runs import write_run_file


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, text_folder: Path) -> Bench:
    place = tmp_path_factory.mktemp("budget")
    run_file = write_run_file(place / "tiny.yaml", place / "out", model_folder, text_folder)
    flags = ["--sgld.estimator", "mean-gradient", "--sgld.localization", "1000"]
    flags += ["--sgld.components", "[l0 attn, l1h0, l2 mlp]"]
    assert main(["run", str(run_file), "--quiet", "--until", "chi", *flags]) == 0
    return Bench.of(place / "out", AuxConfig(estimator="covariance", pcs=2, validation_share=0.3), workers=1)


def test_fewer_documents_are_among_more() -> None:
    documents = np.repeat([7, 3, 11, 5, 2, 9, 1, 4], 3)
    few, more = first_documents(documents, 0.25), first_documents(documents, 0.5)
    assert (len(few), len(more)) == (2, 4)
    assert set(few) < set(more)
    assert more == [d for d in dict.fromkeys(documents) if d in more]  # in the order of the rows
    assert len(first_documents(documents, 0.01)) == 2


def test_at_the_draws_of_the_run_it_is_the_runs_own_measurement(bench: Bench) -> None:
    own = bench.measured("heldout", 1.0, bench.config.probe.draws_per_document)
    expected = read_measured(bench.run / "chi", bench.run / "taps", bench.basis, bench.aux, "heldout")
    np.testing.assert_array_equal(own.documents, expected.documents)
    np.testing.assert_array_equal(own.inputs[0], np.concatenate(expected.inputs))
    np.testing.assert_allclose(own.coordinates, expected.coordinates, atol=1e-6)
    more = bench.measured("heldout", 1.0, 2 * bench.config.probe.draws_per_document)
    assert np.abs(more.coordinates - own.coordinates).max() > 1e-3


def test_more_draws_are_paid_for_with_fewer_documents(bench: Bench) -> None:
    judge = bench.measured("heldout", 1.0, 8).target(1)
    bought = [buy(bench, draws, 4, judge) for draws in (4, 8)]
    assert bought[0].documents == 2 * bought[1].documents
    assert bought[0].tokens > bought[1].tokens
    for one in bought:
        value, low, high = one.predicted
        assert -1 <= low <= value <= high <= 1
        assert 0.2 < one.measured < 1
