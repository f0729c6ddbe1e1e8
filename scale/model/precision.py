"""Whether bfloat16 is worth having on a device: asked of the hardware, and measured."""

from __future__ import annotations

import time

import torch

#: Edge of the square matrices whose product is timed.
CPU_EDGE, GPU_EDGE = 512, 4096
REPEATS = 5


def native_bfloat16(device: torch.device) -> bool:
    """Whether a GPU multiplies in bfloat16 itself. No processor is taken to: most convert, and are slower for it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def product_seconds(dtype: torch.dtype, device: torch.device, edge: int) -> float:
    """The fastest of a few products of two square matrices."""
    left, right = (torch.ones(edge, edge, dtype=dtype, device=device) for _ in range(2))
    found = []
    for _ in range(REPEATS + 1):
        before = time.perf_counter()
        _ = left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - before)
    return min(found[1:])


def bfloat16_speed(device: torch.device) -> float:
    """Products per second in bfloat16, as a multiple of those in float32."""
    edge = CPU_EDGE if device.type == "cpu" else GPU_EDGE
    return product_seconds(torch.float32, device, edge) / product_seconds(torch.bfloat16, device, edge)
