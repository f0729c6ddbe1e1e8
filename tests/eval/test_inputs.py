import numpy as np
import pytest

from eval.inputs import NO_LAYER, gather, parts_of
from scale.taps.stage import Taps


def test_parts_lie_end_to_end_in_the_order_of_the_taps():
    taps = Taps((1, 3), gradients=True, responses=("l0h0", "l1 mlp", "unembed"), step=0.1)
    found = [(p.input, p.layer, p.columns.start, p.columns.stop) for p in parts_of(taps, 8, depth=4)]
    assert found == [
        ("activations", 1, 0, 8), ("activations", 3, 8, 16),
        ("gradients", 1, 16, 24), ("gradients", 3, 24, 32), ("gradients", 4, 32, 40),
        ("responses", NO_LAYER, 40, 43),
    ]  # fmt: skip


def test_activations_alone():
    assert [(p.input, p.layer) for p in parts_of(Taps((2,)), 8, depth=4)] == [("activations", 2)]


@pytest.mark.parametrize("rows", [np.arange(30), np.array([0, 9, 10, 29]), np.array([12])])
def test_gather_is_indexing_of_the_whole(rows):
    shards = np.split(np.arange(120.0).reshape(30, 4), [10, 11, 25])
    np.testing.assert_array_equal(gather(shards, rows, slice(1, 3)), np.concatenate(shards)[rows, 1:3])
