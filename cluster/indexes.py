"""What is searched: candidates for the nearest neighbours of any vectors, exactly or nearly.

An index is prepared once; searching it depends on nothing else, so that any process can search a block of queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cluster.faiss_library import library
from cluster.lists import Lists

Array = npt.NDArray[Any]

#: Fewest points of a list, on average.
LIST_POINTS = 40
#: Best codes per neighbour whose true distances are computed, to begin with.
CODES_PER_NEIGHBOUR = 10


class Index(Protocol):
    @property
    def one_by_one(self) -> bool:
        """Whether blocks of queries must be searched one after another, the index having threads of its own."""

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """Rows of X in an order in which neighbours follow each other, for queries that are these rows."""

    def candidates(self, vectors: Array, count: int) -> npt.NDArray[np.int64]:
        """At least `count` row numbers of X for each vector, its neighbours among them if possible; -1 for none."""

    def arrays(self) -> Mapping[str, Array]:
        """All that `read_index` needs."""


class Wider(Index, Protocol):
    """An approximate index."""

    @property
    def opened(self) -> int: ...

    def wider(self, opened: int) -> Wider:
        """The same, opening another number of lists."""

    def __len__(self) -> int:
        """Of its lists."""


@dataclass(frozen=True)
class ListIndex:
    """Lists of vectors; of one list or with all of them opened, it is exact."""

    lists: Lists
    opened: int
    one_by_one: bool = False

    @classmethod
    def of(cls, X: Array, lists: int, seed: int) -> ListIndex:
        return cls(Lists.of(X, lists, seed), 1)

    @property
    def order(self) -> npt.NDArray[np.int64]:
        return self.lists.rows

    def candidates(self, vectors: Array, count: int) -> npt.NDArray[np.int64]:
        return self.lists.candidates(vectors, count, self.opened)

    def wider(self, opened: int) -> ListIndex:
        return replace(self, opened=opened)

    def arrays(self) -> dict[str, Array]:
        return {**self.lists.arrays, "opened": np.array([self.opened])}

    def __len__(self) -> int:
        return len(self.lists)


class QuantisedIndex:
    """Lists of 4-bit product codes of faiss; all that it finds is to be ranked by true distances."""

    one_by_one = True

    def __init__(self, index: Any, points: int, width: int, opened: int) -> None:
        self._index, self._points, self._width, self.opened = index, points, width, opened

    @classmethod
    def of(cls, X: Array, lists: int, seed: int) -> QuantisedIndex:
        width = X.shape[1] + X.shape[1] % 2
        index = library().index_factory(width, f"IVF{lists},PQ{width // 2}x4fs")
        index.cp.seed = seed
        index.train(_even(X, width))
        index.add(_even(X, width))
        return cls(index, len(X), width, 1)

    @property
    def order(self) -> npt.NDArray[np.int64]:
        return np.arange(self._points)

    def candidates(self, vectors: Array, count: int) -> npt.NDArray[np.int64]:
        return self._search(_even(vectors, self._width), count, self.opened)

    def _search(self, vectors: Array, count: int, opened: int) -> npt.NDArray[np.int64]:
        """Where the lists opened hold fewer than `count` points, more are."""
        self._index.nprobe = opened
        wanted = min(CODES_PER_NEIGHBOUR * count, self._points)
        found: npt.NDArray[np.int64] = self._index.search(vectors, wanted)[1]
        short = np.flatnonzero((found >= 0).sum(axis=1) < count)
        if len(short) and opened < len(self):
            found[short] = self._search(vectors[short], count, min(2 * opened, len(self)))
        return found

    def wider(self, opened: int) -> QuantisedIndex:
        return QuantisedIndex(self._index, self._points, self._width, opened)

    def arrays(self) -> dict[str, Array]:
        numbers = np.array([self._points, self._width, self.opened])
        return {"faiss": library().serialize_index(self._index), "numbers": numbers}

    def __len__(self) -> int:
        return int(self._index.nlist)


class GraphicsIndex:
    """Every pair compared on all graphics processors that this build of faiss can use."""

    one_by_one = True

    def __init__(self, X: Array) -> None:
        faiss = library()
        self._points = len(X)
        self._index: Any = faiss.index_cpu_to_all_gpus(faiss.IndexFlatL2(X.shape[1]))
        self._index.add(X)

    @property
    def order(self) -> npt.NDArray[np.int64]:
        return np.arange(self._points)

    def candidates(self, vectors: Array, count: int) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = self._index.search(vectors, count)[1]
        return found

    def arrays(self) -> dict[str, Array]:
        return {}


def exact_index(X: Array) -> Index:
    return GraphicsIndex(X) if graphics_processors() else ListIndex.of(X, 1, 0)


def on_graphics(arrays: Mapping[str, Array]) -> bool:
    """Whether these are the arrays of an index that searches on graphics processors: it has none."""
    return not arrays


def read_index(arrays: Mapping[str, Array], X: Array) -> Index:
    """The index that gave these arrays."""
    if "opened" in arrays:
        given = {name: array for name, array in arrays.items() if name != "opened"}
        return ListIndex(Lists(**given), int(arrays["opened"][0]))
    if "faiss" in arrays:
        points, width, opened = arrays["numbers"].tolist()
        return QuantisedIndex(library().deserialize_index(np.array(arrays["faiss"])), points, width, opened)
    return GraphicsIndex(X)


def graphics_processors() -> int:
    return int(library().get_num_gpus())


def list_count(points: int) -> int:
    """Twice the square root of the number of points, if lists are not too short then."""
    return max(1, int(min(2 * np.sqrt(points), points / LIST_POINTS)))


def _even(vectors: Array, width: int) -> Array:
    """A column of zeros appended to an odd width: distances stay, and the columns pair up for the codes."""
    return np.pad(vectors, ((0, 0), (0, width - vectors.shape[1])))
