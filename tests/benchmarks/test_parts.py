"""Parts of χ compared, on planted data whose answers are known: subspaces, noise that draws share, classes, leaks."""

import json
import sys
from pathlib import Path

import numpy as np
import polars
import pytest

from benchmarks.parts.bases import fit, levelled, measurement, share_within, shared_variance
from benchmarks.parts.clusters import agreement, between, chance
from benchmarks.parts.inputs import NAMES, read_run, terms
from benchmarks.parts.leakage import coordinates, leakage
from benchmarks.parts.measure import main
from benchmarks.parts.neighbours import (
    ACROSS,
    K,
    find,
    in_other_documents,
    lift,
    overlaps,
    permuted_candidates,
    rare,
    same,
    same_target,
)
from eval.agreement import best_matches
from scale.errors import UserError
from scale.store import Manifest, write_array, write_manifest, write_shard, write_table

ROWS, COLUMNS, DOCUMENTS = 1200, 12, 30
NAMED = tuple(f"c{i}" for i in range(COLUMNS))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def halves_of(signal: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """(rows, 2, C): the same signal in both halves, each with noise of its own."""
    return signal[:, None] + noise * normal(seed, len(signal), 2, signal.shape[1])


def low_rank(seed: int, rank: int = 2) -> np.ndarray:
    return normal(seed, ROWS, rank) @ normal(seed + 1000, rank, COLUMNS)


def documents() -> np.ndarray:
    return np.repeat(np.arange(DOCUMENTS), ROWS // DOCUMENTS)


KINDS = 40


def targets() -> np.ndarray:
    return np.random.default_rng(7).integers(0, KINDS, ROWS)


def test_parts_add_up_and_are_those_of_the_estimators() -> None:
    covariance, shift, full = normal(0, 5, 2, 3), normal(1, 5, 2, 3), normal(2, 5, 2)
    m = np.array([0.5, 2.0, 3.0])
    found = terms(covariance, shift, full, m)
    assert tuple(found) == NAMES
    np.testing.assert_allclose(found["covariance"], -covariance)
    np.testing.assert_allclose(found["shift"], -m * (shift - full[..., None]))
    np.testing.assert_allclose(found["covariance"] + found["shift"], found["two-chain"])


def test_measurement_knows_signal_from_noise() -> None:
    good, bad = (measurement(halves_of(low_rank(0), noise, 1), NAMED) for noise in (0.1, 30.0))
    assert good.reliability > 0.95
    assert min(good.leading[:2]) > 0.95
    assert good.pcs == 2
    assert bad.reliability < 0.2
    assert abs(bad.mean_leading) < 0.1
    assert bad.pcs > 8


def test_a_part_is_levelled_by_noise_that_its_halves_do_not_share() -> None:
    good = halves_of(low_rank(0, 12), 0.1, 1)
    before = measurement(good, NAMED).mean_leading
    worse = levelled(good, NAMED, 0.4, seed=0)
    assert before > 0.9
    assert measurement(worse, NAMED).mean_leading == pytest.approx(0.4, abs=0.01)
    again = levelled(worse, NAMED, 0.5, seed=0)
    np.testing.assert_array_equal(again, worse)  # nothing is to be added


def test_a_subspace_holds_itself_and_nothing_at_right_angles() -> None:
    """Brute force: rows projected on the leading directions."""
    X, Y = low_rank(0, 4), low_rank(3, 4)
    inner, outer = fit(X, NAMED), fit(Y, NAMED)
    Z = inner.coordinates(X) @ inner.directions.T  # standardised rows
    projected = Z @ outer.directions[:, :3] @ outer.directions[:, :3].T
    np.testing.assert_allclose(share_within(inner, outer, 3), np.square(projected).sum() / np.square(Z).sum())
    assert share_within(inner, inner, 4) == pytest.approx(1)


def test_parts_that_share_a_subspace_stand_apart_from_those_that_do_not() -> None:
    """The second has the first's directions with other coordinates."""
    mixing = normal(5, 2, COLUMNS)
    parts = {
        "one": halves_of(normal(0, ROWS, 2) @ mixing, 0.3, 1),
        "two": halves_of(normal(2, ROWS, 2) @ mixing, 0.3, 3),
        "other": halves_of(low_rank(8), 0.3, 4),
    }
    pairs, by_chance = shared_variance(parts, NAMED, seed=0, leading=2)
    assert pairs["one", "one"] > 0.8
    assert pairs["one", "two"] > 0.9 * pairs["one", "one"]
    assert pairs["one", "other"] < 0.5 * pairs["one", "one"]
    assert by_chance < 0.5
    assert pairs["one", "two"] == pytest.approx(pairs["two", "one"], abs=0.1)


def test_neighbours_are_the_nearest_of_other_documents() -> None:
    points, asking = normal(0, 200, 3), normal(1, 200, 3)
    owners, queries = np.repeat(np.arange(5), 40), np.arange(0, 200, 7)
    found = in_other_documents(points.astype(np.float32), asking[queries].astype(np.float32), queries, owners, 6)
    for row, query in enumerate(queries):
        distance = np.linalg.norm(points - asking[query], axis=1)
        distance[owners == owners[query]] = np.inf
        np.testing.assert_array_equal(found[row], np.argsort(distance)[:6])


def test_too_few_documents_for_neighbours_are_refused() -> None:
    points = normal(0, 20, 3).astype(np.float32)
    with pytest.raises(UserError, match="other documents"):
        in_other_documents(points, points, np.arange(20), np.zeros(20, int), 3)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "whitened", "signal"])
def test_noise_that_draws_share_makes_neighbours_within_a_half_and_none_across(metric: str) -> None:
    """Tokens with the same target get the same noise, another in each half: all there is within, nothing across."""
    tokens = targets()
    noise = normal(0, KINDS, 2, COLUMNS)[tokens] + 0.2 * normal(1, ROWS, 2, COLUMNS)
    signal = halves_of(normal(2, KINDS, COLUMNS)[tokens], 0.2, 3)
    for halves, speaks in ((noise, False), (signal, True)):
        found = find(halves, NAMED, documents(), np.arange(0, ROWS, 3), metric)  # type: ignore[arg-type]
        shares, few = same_target(found, tokens, documents(), seed=0).values()
        assert shares is not None
        assert few is None  # none of forty tokens is rare
        assert shares.within.value > 0.8
        assert shares.permuted == pytest.approx(1 / KINDS, abs=0.02)
        if speaks:
            assert shares.across.value > 0.8
        else:
            assert shares.across.value < 0.1


def test_shares_are_counted_by_hand() -> None:
    tokens = targets()
    found = find(halves_of(low_rank(0), 1.0, 1), NAMED, documents(), np.array([3, 500, 1100]), "cosine")
    by_hand = [
        np.mean([np.mean(tokens[found.lists[pair][row]] == tokens[query]) for pair in ACROSS])
        for row, query in enumerate(found.queries)
    ]
    np.testing.assert_allclose(same(found, tokens, ACROSS), by_hand)


def test_rare_is_rarer_than_one_in_two_hundred() -> None:
    tokens = np.array([0] * 990 + [1] * 6 + [2] * 4)
    assert rare(tokens).sum() == 4
    assert rare(tokens)[-4:].all()


def test_a_class_lifts_where_it_speaks_and_nowhere_else() -> None:
    classes = np.random.default_rng(0).choice([-1, 0, 1], size=ROWS, p=[0.5, 0.25, 0.25])
    planted = 2.0 * np.outer(classes == 0, normal(1, COLUMNS)) + 0.3 * normal(2, ROWS, COLUMNS)
    found = find(halves_of(planted, 0.3, 3), NAMED, documents(), np.arange(ROWS), "euclidean")
    spoken, silent = (lift(found, classes, documents(), number) for number in (0, 1))
    assert spoken is not None
    assert silent is not None
    assert spoken.value == pytest.approx(4, abs=0.3)  # the most there is: one over its share
    assert 1 < silent.value < 1.6  # a third of what is left once the first class keeps to itself
    wrong = lift(permuted_candidates(found, ROWS, 0), classes, documents(), 0)
    assert wrong is not None
    assert wrong.value == pytest.approx(1, abs=0.1)
    assert lift(found, classes, documents(), 2) is None


def test_parts_have_the_same_neighbours_only_across_draws_that_measure_the_same() -> None:
    """Two parts of independent signals in common noise agree within a half, and not across."""
    noise = 3 * normal(0, ROWS, 2, COLUMNS)
    parts = {
        "one": noise + low_rank(1)[:, None],
        "two": noise + low_rank(4)[:, None],
        "copy": halves_of(low_rank(1), 0.05, 9),
        "again": halves_of(low_rank(1), 0.05, 10),
    }
    found = {name: find(h, NAMED, documents(), np.arange(0, ROWS, 4), "euclidean") for name, h in parts.items()}
    values, by_chance = overlaps(found, seed=0)
    assert by_chance < 0.02
    assert values["one", "two"]["within"] > 5 * values["one", "two"]["across"]
    assert values["copy", "again"]["across"] > 0.3
    assert values["copy", "copy"]["across"] == pytest.approx(values["copy", "again"]["across"], rel=0.2)


def test_leakage_is_the_same_for_the_same_signal_however_noisy() -> None:
    signal = low_rank(0, 3)
    activations = signal[:, :5] + normal(1, ROWS, 5)
    clean, noisy = (leakage(coordinates(halves_of(signal, n, 2), NAMED), activations, 0) for n in (0.01, 2.0))
    assert clean.corrected == pytest.approx(clean.debiased, abs=0.01)
    assert noisy.debiased < 0.93 * clean.debiased
    assert noisy.corrected == pytest.approx(clean.debiased, abs=0.05)
    assert abs(noisy.permuted) < 0.02


def test_best_matches_by_hand() -> None:
    one, two = np.array([0, 0, 0, 1, 1, -1]), np.array([2, 2, -1, 0, 1, 1])
    np.testing.assert_allclose(best_matches(one, two), [2 / 3, 1 / 2])
    np.testing.assert_allclose(best_matches(two, one), [1 / 2, 1 / 3, 2 / 3])
    assert best_matches(one, np.full(6, -1)).tolist() == [0, 0]


def test_agreement_knows_the_same_clusters_by_other_names_and_none_by_chance() -> None:
    labels = np.random.default_rng(0).integers(-1, 6, 600)
    renamed = np.where(labels < 0, -1, (labels + 2) % 6)
    assert vars(agreement(labels, renamed)) == {"both": pytest.approx((labels >= 0).mean()), "rand": 1, "jaccard": 1}
    none = agreement(labels, np.full(600, -1))
    assert (none.rand, none.jaccard) == (None, 0)
    by_chance = chance([(labels, renamed)], seed=0)
    assert abs(by_chance.rand or 0) < 0.05
    assert by_chance.jaccard < 0.2


def test_across_compares_other_halves_and_within_the_same() -> None:
    a, b = np.repeat([0, 1], 10), np.tile([0, 1], 10)
    across, within = between([a, b], [a, b])
    assert within.rand == 1
    assert across.rand is not None
    assert across.rand < 0.1


# A whole run folder, of classes that one part tells apart and the other does not

WORDS = ["x", " =", "(", ")", "\n", " if", " name", " +"]


def write_run(folder: Path, contexts: int = 60, length: int = 17, width: int = 4) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, len(WORDS), (contexts, length)).astype(np.int32)
    owners = np.arange(contexts) // 2
    rows = polars.DataFrame(
        {
            "row": np.arange(contexts * (length - 1)),
            "context": np.repeat(np.arange(contexts, dtype=np.int32), length - 1),
            "position": np.tile(np.arange(1, length, dtype=np.int32), contexts),
            "token": tokens[:, 1:].ravel(),
            "document": np.repeat(owners, length - 1),
        }
    )
    count, columns = len(rows), 6
    spoken = 3 * rng.normal(size=(len(WORDS), columns))[rows["token"].to_numpy()]
    covariance = spoken[:, None] + 0.3 * rng.normal(size=(count, 2, columns))
    shift, full = rng.normal(size=(count, 2, columns)), rng.normal(size=(count, 2))
    write_array(folder / "corpus" / "tokens.npy", tokens)
    write_table(folder / "corpus" / "vocabulary.parquet", polars.DataFrame({"token": range(len(WORDS)), "text": WORDS}))
    write_table(folder / "chi" / "rows.parquet", rows)
    names = [f"c{i}" for i in range(columns)]
    write_table(
        folder / "chi" / "components.parquet", polars.DataFrame({"component": names, "mean_phi": [9.0] * columns})
    )
    for index, part in enumerate((slice(0, 500), slice(500, count))):
        arrays = {"covariance": covariance[part], "shift": shift[part], "full": full[part]}
        write_shard(folder / "chi", f"{index:05d}", {k: v.astype(np.float32) for k, v in arrays.items()})
    activations = np.hstack([spoken[:, :width], rng.normal(size=(count, width))])
    write_shard(folder / "taps", "00000", {"taps": activations.astype(np.float32)})
    settings = {"sgld.estimator": "plain", "sgld.localization": 300.0, "sgld.nbeta": 30.0}
    settings |= {"probe.draws_per_document": 4, "probe.draws": "shared"}
    for stage, facts in (
        ("corpus", {"model": "m", "corpus": "c"}),
        ("chi", {}),
        ("taps", {"layers": [1, 2], "width": width}),
    ):
        write_manifest(folder / stage, Manifest(stage, settings if stage == "chi" else {}, {}, facts))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    return folder


def test_a_sample_of_documents_is_read_in_step_with_its_rows(run: Path) -> None:
    everything, some = read_run(run, 10**6, 0), read_run(run, 300, 0)
    assert some.available == len(everything.tokens) == 960
    assert 300 <= len(some.tokens) < 400
    np.testing.assert_array_equal(some.tokens, everything.tokens[some.rows])
    np.testing.assert_array_equal(some.classes, everything.classes[some.rows])
    for name in NAMES:
        np.testing.assert_array_equal(some.parts[name], everything.parts[name][some.rows])
    opening = everything.tokens == WORDS.index("(")
    assert (everything.classes[opening] == 1).all()
    assert not (everything.classes[~opening] == 1).any()


def test_the_command_tells_which_part_speaks(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["parts", str(run), "--out", str(tmp_path), "--queries", "300", "--markdown"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    record = json.loads((tmp_path / "parts.json").read_text())
    spoken, silent = (
        record["neighbours"]["targets"][name]["all"]["across"]["value"] for name in ("covariance", "shift")
    )
    assert spoken > 0.9
    assert silent == pytest.approx(1 / 8, abs=0.04)
    near, far = (record["leakage"][layer]["covariance"]["corrected"] for layer in (0, 1))
    assert near > 0.3 > 0.05 > abs(far)
    brackets = next(one for one in record["classes"] if one["class"] == "opening bracket")
    assert brackets["lift"]["covariance"]["value"] > 5
    assert brackets["lift"]["shift"]["value"] < 2
    assert record["levelled"]["covariance"]["all"]["across"]["value"] < 0.3  # as noisy as the shift, it is as silent
    assert record["levelled"]["shift"] == record["neighbours"]["targets"]["shift"]
    assert record["parts"]["covariance"]["reliability"] > 0.9 > 0.3 > record["parts"]["shift"]["reliability"]
    found = {
        pair["first"]: pair["value"]["across"]
        for pair in record["clusters"]["pairs"]
        if pair["first"] == pair["second"]
    }
    assert found["covariance"]["jaccard"] > 3 * record["clusters"]["chance"]["jaccard"] > 0
    assert found["shift"]["jaccard"] == 0
    printed = capsys.readouterr().out
    assert printed.count("|---|") >= 4
    assert f"{record['parts']['covariance']['reliability']:.2f}" in printed
    assert f"{K} nearest" in printed
    assert (tmp_path / "parts.svg").read_text().startswith("<?xml")


def test_a_folder_that_is_no_finished_run_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["parts", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "no finished stage 'corpus'" in capsys.readouterr().err
