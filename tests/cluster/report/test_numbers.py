import numpy as np
import pytest

from cluster.report.numbers import rounded, rounded_array, significant


@pytest.mark.parametrize("digits", [1, 3, 4])
def test_an_array_is_rounded_as_its_numbers_are(digits: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=2000) * 10.0 ** rng.integers(-20, 20, 2000)
    values[:6] = [0.0, -0.0, np.nan, np.inf, -np.inf, 999.96]
    assert rounded_array(values, digits) == [rounded(value, digits) for value in values.tolist()]
    assert rounded_array(values.reshape(50, 40), digits)[1] == rounded_array(values[40:80], digits)
    assert (significant(values[10:], digits) != values[10:]).all()


def test_whole_numbers_stay_as_they_are() -> None:
    assert rounded_array(np.array([123456, -7])) == [123456, -7]
