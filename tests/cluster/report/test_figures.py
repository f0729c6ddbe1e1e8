import math
from itertools import pairwise

import polars as pl

from cluster.report.figures import thinned
from cluster.report.numbers import rounded


def test_thinning_keeps_both_ends_spreads_evenly_and_says_how_many_there_were() -> None:
    table = pl.DataFrame({"size": list(range(1000)), "conductance": [i / 1000 for i in range(1000)]}).reverse()
    few = thinned(table, 11)
    assert few["of"] == 1000
    sizes = few["columns"]["size"]
    assert (len(sizes), sizes[0], sizes[-1]) == (11, 0, 999)
    assert {b - a for a, b in pairwise(sizes)} <= {99, 100, 101}
    assert thinned(table, 1000)["columns"]["size"] == list(range(1000))


def test_numbers_keep_significant_digits_and_nothing_that_is_not_a_number() -> None:
    assert rounded(0.00012345678) == 0.0001235
    assert rounded(123456789) == 123456789
    assert rounded(-123.456, digits=2) == -120.0
    assert rounded(None) is rounded(math.nan) is rounded(math.inf) is None
