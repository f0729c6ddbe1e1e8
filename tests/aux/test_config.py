import pytest

from aux.config import AuxConfig, UpsampleConfig
from scale.errors import UserError


@pytest.mark.parametrize(
    ("field", "value"),
    [("pcs", 0), ("explained", 1.5), ("expansion", 0), ("l1", -1.0), ("learning_rate", 0.0), ("validation_share", 1.0),
     ("epochs", 0), ("batch_size", 0), ("patience", 0), ("weight_decay", float("nan")), ("devices", 0),
     ("loader_workers", -1), ("threads", 0)],
)  # fmt: skip
def test_impossible_values_name_their_key(field, value):
    with pytest.raises(UserError, match=rf"^aux\.{field} must"):
        AuxConfig(**{field: value})


@pytest.mark.parametrize(("field", "least"), [("batch_contexts", 0), ("contexts_per_shard", 1)])
def test_impossible_sizes_of_upsampling_name_their_key(field, least):
    UpsampleConfig(**{field: least})
    with pytest.raises(UserError, match=rf"^upsample\.{field} must be at least {least}, got {least - 1}"):
        UpsampleConfig(**{field: least - 1})


def test_hidden_width_multiplies_what_it_is_told_to():
    assert AuxConfig(expansion=16).hidden_width(128, 512) == 2048
    assert AuxConfig(expansion=2, expansion_of="input").hidden_width(128, 512) == 1024
    assert AuxConfig(architecture="linear").hidden_width(128, 512) == 512
