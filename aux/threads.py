"""How many threads the arithmetic of a training is shared out to.

Sums that several threads share are added in another order than by one: weights then differ in their last bits, and
after some epochs in more. Torch and the linear algebra beneath numpy each have threads of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


def set_threads(threads: int | None) -> None:
    """In this process, from here on, exactly so many; None leaves what it has."""
    if threads is not None:
        torch.set_num_threads(threads)
        threadpool_limits(threads, user_api="blas")


@contextmanager
def computing_in(threads: int | None) -> Iterator[None]:
    """Exactly so many threads within the block, more or fewer than the process otherwise has."""
    if threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
