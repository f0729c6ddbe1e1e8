"""faiss, imported the one way that works on every system."""

from __future__ import annotations

import os
import sys
from typing import Any


def library() -> Any:
    """The module.

    On macOS torch and faiss each bring an OpenMP runtime of their own. The one that comes second ends the process
    unless it is told not to, and crashes when its threads run beside those of the first: so faiss has one thread there
    (https://github.com/faiss-wheels/faiss-wheels/issues/73).
    """
    alone = sys.platform != "darwin"
    if not alone:
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
    import faiss

    if not alone:
        faiss.omp_set_num_threads(1)
    return faiss
