"""How much is evaluated at once, and what happens when that is more than the device holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from scale.engine import per_worker
from scale.errors import UserError

CPU_TOKENS, GPU_TOKENS = 4096, 131072
#: Perturbed weights held at once, in numbers; bounds the memory of variants of large components.
PARAMETERS = 2**28
#: What torch's RuntimeErrors say when memory is used up: its allocator, C++'s, and cuBLAS when it has no workspace.
ALLOCATION = ("can't allocate memory", "std::bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED")

log = logging.getLogger("balmer")


def default_tokens(device: torch.device) -> int:
    """On a processor what keeps activations in its caches, on a GPU what fills it."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


class DoesNotFitError(UserError):
    """Memory is too small for the smallest step that is left; a larger loop around it may still make less of it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Numpy and Python raise a `MemoryError`, torch errors of its own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | DoesNotFitError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in ALLOCATION)


class Budget:
    """Tokens that are evaluated at once. Halved, with a word in the log, each time the device runs out of memory."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    @classmethod
    def of(cls, device: torch.device, tokens: int = 0) -> Budget:
        return cls(tokens or default_tokens(device))

    def variants(self, tokens: int, parameters: int = 0) -> int:
        """How many variants fit, each of so many tokens and perturbed parameters; at least one."""
        return max(1, min(self.tokens // max(1, tokens), PARAMETERS // max(1, parameters)))

    def ranges(
        self, count: int, size: Callable[[], int], function: Callable[[int, int], None], what: str = "variants"
    ) -> None:
        """Call ``function(begin, end)`` over ``range(count)``, ``size()`` at a time, in smaller steps if it must be.

        ``size`` follows from the budget. A call that ran out of memory is made again in smaller steps, so it must not
        have changed anything by then. Ranges may lie within ranges: the outer one is made smaller when the inner one
        cannot be.
        """
        begin = 0
        while begin < count:
            end = min(count, begin + size())
            if fits(function, begin, end):
                begin = end
            else:
                self.halve(end - begin, size, what)

    def halve(self, failed: int, size: Callable[[], int], what: str) -> None:
        """Lower the budget until ``size()`` is less than what failed."""
        torch.cuda.empty_cache()
        if failed == 1:
            raise DoesNotFitError(out_of_memory())
        while size() >= failed:
            self.tokens //= 2
        log.warning("out of memory with %d %s at once; going on with %d", failed, what, size())


def fits(function: Callable[[int, int], None], begin: int, end: int) -> bool:
    """Call the function; False if it ran out of memory, when all that it held is let go again."""
    try:
        function(begin, end)
    except (RuntimeError, MemoryError, DoesNotFitError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def out_of_memory() -> str:
    return (
        "model.device: out of memory with as little at once as possible; lower sgld.batch_contexts, "
        "corpus.context_length or model.batch_tokens, or take another device"
    )


@contextmanager
def memory_explained() -> Iterator[None]:
    """Within, memory that runs out where no smaller step can help is told to the user in one line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DoesNotFitError(out_of_memory()) from error


@per_worker
def remembered_budget(device: torch.device, tokens: int) -> Budget:
    """The budget of a worker's items, so that what one has learnt about the device is not learnt again by the next."""
    return Budget.of(device, tokens)


def batches(count: int, size: int) -> Iterator[slice]:
    for begin in range(0, count, max(1, size)):
        yield slice(begin, min(count, begin + max(1, size)))
