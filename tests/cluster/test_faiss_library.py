"""How faiss is imported."""

import os
from collections.abc import Iterator
from pathlib import Path

import faiss
import pytest

from cluster.faiss_library import library


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize(("system", "said", "threads"), [("darwin", "TRUE", 1), ("linux", None, 2)])
def test_a_second_openmp_is_let_in_on_macos_with_one_thread(
    monkeypatch: pytest.MonkeyPatch, two_threads: None, system: str, said: str | None, threads: int
) -> None:
    monkeypatch.setenv("KMP_DUPLICATE_LIB_OK", "?")
    monkeypatch.delenv("KMP_DUPLICATE_LIB_OK")
    monkeypatch.setattr("sys.platform", system)
    assert library() is faiss
    assert os.environ.get("KMP_DUPLICATE_LIB_OK") == said
    assert faiss.omp_get_max_threads() == threads


def test_nobody_imports_it_otherwise() -> None:
    root = Path(__file__).parents[2]
    found = [
        str(path.relative_to(root))
        for folder in ("balmer", "scale", "aux", "cluster", "eval")
        for path in (root / folder).rglob("*.py")
        if "import faiss" in path.read_text(encoding="utf-8")
    ]
    assert found == ["cluster/faiss_library.py"]
