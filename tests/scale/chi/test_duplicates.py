"""Rows that are equal to another, against a count by hand."""

import numpy as np
import pytest

from scale.chi.duplicates import Duplicates

RNG = np.random.default_rng(0)
TABLE, OTHER = RNG.normal(size=(60, 2, 4)).astype(np.float32), RNG.normal(size=(60, 3)).astype(np.float32)
for copy, original in ((5, 50), (7, 50), (30, 31)):
    TABLE[copy], OTHER[copy] = TABLE[original], OTHER[original]
OTHER[31, 0] += 1e-6  # so that 30 and 31 are equal in the first array only


@pytest.mark.parametrize("size", [1, 7, 60])
def test_rows_equal_in_every_array_are_counted_across_blocks(size: int) -> None:
    found = Duplicates()
    for begin in range(0, 60, size):
        part = Duplicates()
        part.update(TABLE[begin : begin + size], OTHER[begin : begin + size])
        found.merge(part)
    assert found.count == 3  # 5, 7 and 50


def test_no_rows_and_no_equal_rows() -> None:
    found = Duplicates()
    assert found.count == 0
    found.update(RNG.normal(size=(100, 5)))
    assert found.count == 0
