import pytest

from cluster.report.config import ReportConfig
from scale.errors import UserError


@pytest.mark.parametrize(
    ("key", "value"),
    [("nearest", -1), ("top", 0), ("digest", 0), ("support_level", 0.0), ("chunk_bytes", 2_000_000), ("seed", -1)],
)
def test_a_value_out_of_range_is_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"report.{key} must"):
        ReportConfig(**{key: value})


def test_more_context_than_a_data_file_holds_is_refused() -> None:
    ReportConfig(nearest=100, before=50)
    with pytest.raises(UserError, match="lower report"):
        ReportConfig(nearest=1000, before=500)
