"""Chains that fail on purpose."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import scale.draws.chains
from scale.draws.chains import ChainKey


def spoil(monkeypatch: pytest.MonkeyPatch, wanted: Callable[[ChainKey], bool]) -> None:
    """L at the draws of some chains is not a number, as if their weights had overflowed."""
    evaluate = scale.draws.chains.mean_losses

    def spoiled(tail: Any, keys: Sequence[ChainKey], *rest: Any) -> np.ndarray:
        found = evaluate(tail, keys, *rest)
        found[[index for index, key in enumerate(keys) if wanted(key)]] = np.nan
        return found

    monkeypatch.setattr(scale.draws.chains, "mean_losses", spoiled)
