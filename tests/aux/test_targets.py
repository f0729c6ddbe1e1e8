import numpy as np

from aux.basis import BasisAccumulator
from aux.targets import read_targets, write_targets


def measured(rows=90, seed=0):
    """χ (rows, 2, C) in uneven blocks, and the basis of its mean over halves."""
    rng = np.random.default_rng(seed)
    chi = rng.normal(size=(rows, 1, 5)) * 3 + rng.normal(size=(rows, 2, 5)) + 7
    basis = BasisAccumulator([f"l0h{i}" for i in range(5)]).update(chi.mean(axis=1)).result(pcs=3)
    return chi, np.split(chi, [10, 60]), basis


def test_halves_are_kept_apart_and_both_is_the_coordinate_of_their_mean(tmp_path):
    chi, blocks, basis = measured()
    write_targets(tmp_path, blocks, basis)
    for half in (0, 1):
        found = read_targets(tmp_path, half)
        assert [len(block) for block in found] == [10, 50, 30]
        assert all(isinstance(block, np.memmap) and block.dtype == np.float32 for block in found)
        np.testing.assert_allclose(np.concatenate(found), basis.coordinates(chi[:, half]), atol=1e-5)
    both = np.concatenate(read_targets(tmp_path, None))
    np.testing.assert_allclose(both, basis.coordinates(chi.mean(axis=1)), atol=1e-5)
    assert np.abs(both - np.concatenate(read_targets(tmp_path, 0))).max() > 0.1


def test_a_finished_shard_is_left_alone_and_a_missing_one_is_written(tmp_path):
    _, blocks, basis = measured()
    write_targets(tmp_path, blocks[:2], basis)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    write_targets(tmp_path, blocks, basis)
    assert len(read_targets(tmp_path, 0)) == 3
    assert {path: path.stat().st_mtime_ns for path in files} == files
