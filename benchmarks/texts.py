"""Real text to measure: the running Python's standard library in the demo model's tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from balmer.demo import MODEL
from scale.config import ModelConfig
from scale.corpus.sources import iterate
from scale.model.language_model import load_tokenizer


def text_contexts(count: int, length: int) -> np.ndarray:
    """One context from the middle of each of ``count`` modules of the standard library."""
    tokenizer = load_tokenizer(ModelConfig(path=str(MODEL)))

    def windows() -> Iterator[list[int]]:
        for text in iterate("python-stdlib", shuffle=1):
            ids = tokenizer(text.text[len(text.text) // 2 :][: 8 * length])["input_ids"]
            if len(ids) >= length:
                yield ids[:length]

    found = windows()
    return np.array([next(found) for _ in range(count)])
