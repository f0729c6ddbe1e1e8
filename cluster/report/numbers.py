"""Numbers as the data files hold them: a few significant digits, null for what is not a number."""

import math
from collections.abc import Iterable

Number = float | int | None


def rounded(value: Number, digits: int = 4) -> Number:
    """Integers as they are; other numbers to `digits` significant digits; None for null, NaN and infinities."""
    if value is None or isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def rounded_list(values: Iterable[Number], digits: int = 4) -> list[Number]:
    """`rounded` of every value."""
    return [rounded(value, digits) for value in values]
