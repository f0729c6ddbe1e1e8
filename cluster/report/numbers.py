"""Numbers as the data files hold them: a few significant digits, null for what is not a number."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Number = float | int | None

# Magnitudes that are rounded all at once: up to here powers of ten are exact, and so is the answer.
SMALLEST, LARGEST = 1e-12, 1e15


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


def rounded_array(values: NDArray[Any], digits: int = 4) -> list[Any]:
    """`rounded` of every entry of an array of any shape, as nested lists."""
    if not np.issubdtype(values.dtype, np.floating):
        return values.tolist()
    found = significant(values, digits)
    missing = ~np.isfinite(found)
    if not missing.any():
        return found.tolist()
    mixed = found.astype(object)
    mixed[missing] = None
    return mixed.tolist()


def significant(values: NDArray[Any], digits: int = 4) -> NDArray[np.float64]:
    """Numbers to `digits` significant digits; what is not finite stays as it is."""
    exact = values.astype(np.float64)
    size = np.abs(exact)
    plain = (size >= SMALLEST) & (size < LARGEST)
    places = digits - 1 - np.floor(np.log10(size, where=plain, out=np.zeros_like(size)))
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    found = np.where(plain, np.rint(np.where(plain, exact, 0) * up / down) * down / up, exact)
    odd = np.flatnonzero(~plain & np.isfinite(size) & (size != 0))
    found.flat[odd] = [float(f"{value:.{digits}g}") for value in exact.flat[odd].tolist()]
    return found
