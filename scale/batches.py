"""How much is evaluated at once, and what happens when that is more than the device holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import torch

from scale.errors import UserError

CPU_TOKENS, GPU_TOKENS = 4096, 131072
#: Perturbed weights held at once, in numbers; bounds the memory of variants of large components.
PARAMETERS = 2**28
#: What torch says when a processor's memory is used up.
CPU_ALLOCATION = "can't allocate memory"

log = logging.getLogger("balmer")


def default_tokens(device: torch.device) -> int:
    """On a processor what keeps activations in its caches, on a GPU what fills it."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or CPU_ALLOCATION in str(error)


class Budget:
    """Tokens that are evaluated at once. Halved, with a word in the log, each time the device runs out of memory."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    @classmethod
    def of(cls, device: torch.device, tokens: int = 0) -> Budget:
        return cls(tokens or default_tokens(device))

    def variants(self, tokens: int, parameters: int) -> int:
        """How many variants fit, each of so many tokens and perturbed parameters; at least one."""
        return max(1, min(self.tokens // max(1, tokens), PARAMETERS // max(1, parameters)))

    def ranges(self, count: int, size: Callable[[], int], function: Callable[[int, int], None]) -> None:
        """Call ``function(begin, end)`` over ``range(count)``, ``size()`` at a time, in smaller steps if it must be."""
        begin = 0
        while begin < count:
            end = min(count, begin + size())
            try:
                function(begin, end)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self.halve(end - begin)
            else:
                begin = end

    def halve(self, failed: int) -> None:
        torch.cuda.empty_cache()
        if failed == 1:
            raise UserError(
                "model.device: out of memory with one variant at a time; lower sgld.batch_contexts or "
                "corpus.contexts_per_document, or take another device"
            )
        self.tokens //= 2
        log.warning("out of memory with %d variants at once; going on with %d tokens at once", failed, self.tokens)


def batches(count: int, size: int) -> Iterator[slice]:
    for begin in range(0, count, max(1, size)):
        yield slice(begin, min(count, begin + max(1, size)))
