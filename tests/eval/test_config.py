import pytest

from eval.config import LeakageConfig
from scale.errors import UserError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("k", 0),
        ("groups", 1),
        ("permutations", 0),
        ("min_members", 1),
        ("level", 1.0),
        ("seed", -1),
        ("tokens", 9),
        ("repeats", -1),
        ("cell", 1),
        ("exceedances", 0),
        ("neighbours", 0),
        ("splits", 0),
    ],
)
def test_impossible_values_name_their_key(field, value):
    with pytest.raises(UserError, match=rf"^leakage\.{field} must"):
        LeakageConfig(**{field: value})


def test_neighbours_must_fit_into_the_sample():
    with pytest.raises(UserError, match=r"leakage\.k must be below leakage\.tokens"):
        LeakageConfig(k=100, tokens=100)
