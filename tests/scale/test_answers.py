"""What one process leaves for another: every byte of it, and nothing that runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from scale.answers import ANSWER_FILE, Answer


def test_arrays_and_facts_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {
        "weights": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not in the order of rows
        "mask": np.array([True, False]),
        "third": np.array([1 / 3]),
    }
    facts = {"history": [{"score": 0.1}], "epochs": 3, "nothing": None}
    Answer(arrays, facts).save(tmp_path)
    found = Answer.load(tmp_path)
    assert found.facts == facts
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert [path.name for path in tmp_path.iterdir()] == [ANSWER_FILE]


def test_what_json_cannot_hold_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        Answer({"one": np.zeros(1)}, {"what": object()}).save(tmp_path)
    assert not (tmp_path / ANSWER_FILE).exists()


def test_the_file_is_safetensors_with_facts_in_words(tmp_path: Path) -> None:
    Answer({"one": np.zeros(1)}, {"fact": "said"}).save(tmp_path)
    content = (tmp_path / ANSWER_FILE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["facts"]) == {"fact": "said"}
