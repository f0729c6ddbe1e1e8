import numpy as np
import pytest
from sklearn.decomposition import PCA

from aux.basis import BasisAccumulator
from aux.standardize import standardize
from scale.errors import UserError

NAMES = [f"l0h{head}" for head in range(9)]


def susceptibilities(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 4)) @ rng.normal(size=(4, 9)) + 0.3 * rng.normal(size=(rows, 9)) + 20.0


def fit(chi, names=NAMES, **how_many):
    return BasisAccumulator(names).update(chi).result(**how_many)


def test_equals_pca_of_the_standardised_rows():
    chi = susceptibilities()
    basis = fit(chi)
    oracle = PCA(n_components=8).fit(standardize(chi).values)
    assert basis.directions.shape == (9, 8)
    np.testing.assert_allclose(basis.variances, oracle.explained_variance_ * 499 / 500, rtol=1e-9)
    np.testing.assert_allclose(basis.explained, oracle.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(np.abs(basis.directions.T @ oracle.components_.T), np.eye(8), atol=1e-6)


def test_coordinates_have_the_stated_variances_and_no_correlation():
    chi = susceptibilities()
    basis = fit(chi)
    coordinates = basis.coordinates(chi)
    np.testing.assert_allclose(np.cov(coordinates.T, ddof=0), np.diag(basis.variances), atol=1e-9)
    np.testing.assert_allclose(coordinates.mean(axis=0), 0.0, atol=1e-9)


def test_reconstruction_is_exact_with_all_directions_and_loses_the_stated_share_without():
    chi = susceptibilities()
    values = standardize(chi).values
    np.testing.assert_allclose(fit(chi).reconstruct(fit(chi).coordinates(chi)), values, atol=1e-9)
    small = fit(chi, pcs=3)
    lost = np.square(small.reconstruct(small.coordinates(chi)) - values).sum() / np.square(values).sum()
    assert lost == pytest.approx(1 - small.explained.sum(), rel=1e-9)
    assert lost > 0.01


def test_number_of_directions_by_explained_variance_is_the_smallest_that_suffices():
    chi = susceptibilities()
    shares = fit(chi).explained
    for wanted in (0.3, 0.9, 0.99):
        kept = len(fit(chi, explained=wanted).explained)
        assert shares[:kept].sum() >= wanted > shares[: kept - 1].sum()
    assert len(fit(chi, explained=1.0).explained) == 8


def test_merge_equals_one_pass_and_signs_are_fixed():
    chi = susceptibilities()
    whole = fit(chi)
    parts = [BasisAccumulator(NAMES).update(part) for part in np.split(chi, [7, 300])]
    merged = parts[2].merge(parts[0]).merge(parts[1]).result()
    np.testing.assert_allclose(merged.directions, whole.directions, atol=1e-7)
    leading = np.abs(whole.directions).argmax(axis=0)
    assert (whole.directions[leading, np.arange(8)] > 0).all()


def test_duplicate_columns_are_dropped_directions_and_nothing_else():
    chi = susceptibilities()
    doubled = np.concatenate([chi, chi[:, :2] * 5 - 3], axis=1)
    basis = fit(doubled, [*NAMES, "copy0", "copy1"])
    assert basis.directions.shape[1] == 8
    values = standardize(doubled).values
    np.testing.assert_allclose(basis.reconstruct(basis.coordinates(doubled)), values, atol=1e-8)


def test_duplicates_are_named_and_weigh_as_much_as_they_are():
    chi = susceptibilities()
    doubled = np.concatenate([chi, chi[:, :1] * 5 - 3, -chi[:, 1:2], chi[:, :1]], axis=1)
    names = [*NAMES, "again", "mirror", "third"]
    fitted = BasisAccumulator(names).update(doubled)
    assert fitted.duplicates() == [("l0h0", "again", "third")]
    assert BasisAccumulator(NAMES).update(chi).duplicates() == []
    near = np.concatenate([chi, chi[:, :1] + 0.02 * chi[:, 1:2]], axis=1)
    assert BasisAccumulator([*NAMES, "near"]).update(near).duplicates() == []
    share = np.square(fitted.result().directions[[0, 9, 11], 0])
    np.testing.assert_allclose(share, share[0], rtol=1e-6)


def test_accumulator_saved_half_way_goes_on_and_merges(tmp_path):
    chi = susceptibilities()
    whole = fit(chi)
    BasisAccumulator(NAMES).update(chi[:200]).save(tmp_path / "first")
    gone_on = BasisAccumulator.load(tmp_path / "first").update(chi[200:])
    np.testing.assert_allclose(gone_on.result().directions, whole.directions, atol=1e-7)
    assert gone_on.moments.count == 500
    merged = BasisAccumulator(NAMES).update(chi[200:]).merge(BasisAccumulator.load(tmp_path / "first"))
    np.testing.assert_allclose(merged.result().variances, whole.variances, rtol=1e-9)
    with pytest.raises(AssertionError, match="different components"):
        BasisAccumulator.load(tmp_path / "first").merge(BasisAccumulator(NAMES[::-1]))


def test_save_and_load(tmp_path):
    chi = susceptibilities()
    basis = fit(chi, pcs=5)
    basis.save(tmp_path)
    written = (tmp_path / "basis.safetensors").read_bytes()
    loaded = type(basis).load(tmp_path)
    assert loaded.components == tuple(NAMES)
    np.testing.assert_array_equal(loaded.coordinates(chi), basis.coordinates(chi))
    loaded.save(tmp_path)
    assert (tmp_path / "basis.safetensors").read_bytes() == written


def test_mistakes_are_named():
    chi = susceptibilities()
    with pytest.raises(UserError, match=r"aux\.pcs is 9, .* only have 8"):
        fit(chi, pcs=9)
    with pytest.raises(UserError, match=r"column 3 \(l0h3\) is constant"):
        fit(np.where(np.arange(9) == 3, 1.0, chi))
    with pytest.raises(UserError, match="respond alike"):
        fit(chi[:, :1] * np.arange(1, 10))
