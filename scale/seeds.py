"""One seed per named piece of work, so that nothing depends on the order in which pieces are done."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(*parts: str | int) -> int:
    """A 63-bit seed that depends on all parts and on nothing else."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator_for(*parts: str | int) -> np.random.Generator:
    return np.random.default_rng(seed_for(*parts))
