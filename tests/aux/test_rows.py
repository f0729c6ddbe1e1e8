import pickle

import numpy as np
import pytest

from aux.rows import ShardedRows, document_hash, epoch_order, validation_rows
from scale.errors import UserError


def test_take_equals_indexing_the_concatenation(tmp_path):
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(rows, 3)).astype(np.float32) for rows in (5, 0, 8, 1)]
    for number, block in enumerate(blocks[:3]):
        np.save(tmp_path / f"{number}.npy", block)
    mapped = [np.load(tmp_path / f"{number}.npy", mmap_mode="r" if number != 1 else None) for number in range(3)]
    rows = ShardedRows([*mapped, blocks[3]])
    wanted = rng.integers(0, 14, size=50)
    assert len(rows) == 14
    np.testing.assert_array_equal(rows.take(wanted), np.concatenate(blocks)[wanted])
    assert rows.take(wanted[:0]).shape == (0, 3)


def test_mapped_shards_travel_as_places_and_others_as_content(tmp_path):
    block = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    np.save(tmp_path / "block.npy", block)
    mapped = np.load(tmp_path / "block.npy", mmap_mode="r")
    wanted = np.random.default_rng(1).integers(0, 4000, size=50)
    sizes = []
    for shard in (mapped, mapped[7:], mapped[:, ::2], block):
        travelled = pickle.dumps(ShardedRows([shard]))
        found, whole = pickle.loads(travelled), ShardedRows([shard])
        np.testing.assert_array_equal(found.take(wanted % len(whole)), whole.take(wanted % len(whole)))
        sizes.append(len(travelled))
    assert sizes[0] < 1000 < 30_000 < min(sizes[1:])


def test_no_document_is_on_both_sides_and_tokens_do_not_matter():
    documents = np.random.default_rng(0).integers(0, 200, size=4000)
    chosen = validation_rows(documents, 0.1, seed=0)
    inside = np.unique(documents[chosen])
    assert len(inside) == 20
    assert not np.isin(documents[~chosen], inside).any()
    order = np.random.default_rng(1).permutation(4000)
    np.testing.assert_array_equal(validation_rows(documents[order], 0.1, seed=0), chosen[order])
    repeated = np.concatenate([documents, np.full(9000, 3)])
    np.testing.assert_array_equal(validation_rows(repeated, 0.1, seed=0)[:4000], chosen)


def test_seed_changes_the_documents():
    documents = np.arange(500)
    chosen = [validation_rows(documents, 0.3, seed=seed) for seed in (0, 1)]
    assert 150 * 0.15 < (chosen[0] & chosen[1]).sum() < 150 * 0.45


def test_hash_is_uniform_over_consecutive_ids():
    hashes = np.concatenate([document_hash(np.arange(20_000), seed) for seed in range(3)])
    counts = np.bincount((hashes >> np.uint64(59)).astype(np.int64), minlength=32)
    assert len(np.unique(hashes)) == 60_000
    assert (np.square(counts - 1875) / 1875).sum() < 60


def test_at_least_one_document_on_each_side():
    documents = np.array([4, 4, 9])
    for share in (0.01, 0.99):
        assert 0 < validation_rows(documents, share, seed=0).sum() < 3
    with pytest.raises(UserError, match="at least 2 documents"):
        validation_rows(np.zeros(5, dtype=int), 0.1, seed=0)


def test_epoch_order_is_a_permutation_that_follows_from_seed_and_epoch():
    rows = np.arange(10, 1010)
    order = epoch_order(rows, seed=1, epoch=2)
    np.testing.assert_array_equal(np.sort(order), rows)
    np.testing.assert_array_equal(order, epoch_order(rows, seed=1, epoch=2))
    assert not np.array_equal(order, epoch_order(rows, seed=1, epoch=3))
    assert not np.array_equal(order, epoch_order(rows, seed=2, epoch=2))
    assert abs(np.corrcoef(order, rows)[0, 1]) < 0.15
