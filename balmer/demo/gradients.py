"""Loss and gradients of the demo model on a batch; on CUDA as one recorded graph, which costs a single launch."""

from collections.abc import Callable

import torch
from torch.nn import functional
from transformers import GPTNeoXForCausalLM

#: Inputs and targets -> the loss; the gradients are left in the parameters, in place of those of the batch before.
Gradients = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products are the device's own; where they are emulated they take several times as long."""
    return device.type == "cuda" or torch.cpu._is_amx_tile_supported()


def token_loss(model: GPTNeoXForCausalLM, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean loss in nats over the targets; the products in bfloat16 where the device has it, the softmax in float32."""
    # A cache of cast weights saves nothing, since each is used once, and may not outlive a recording.
    reduced = has_bfloat16(model.device)
    with torch.autocast(model.device.type, dtype=torch.bfloat16, cache_enabled=False, enabled=reduced):
        logits = model(input_ids=inputs, use_cache=False).logits
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def gradients(model: GPTNeoXForCausalLM, batch: int, length: int) -> Gradients:
    return recorded(model, batch, length) if model.device.type == "cuda" else plain(model)


def plain(model: GPTNeoXForCausalLM) -> Gradients:
    def compute(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        model.train().zero_grad()
        loss = token_loss(model, inputs.to(model.device), targets.to(model.device))
        loss.backward()
        return loss.detach()

    return compute


def recorded(model: GPTNeoXForCausalLM, batch: int, length: int) -> Gradients:
    """The kernels of one step, recorded once and played again on every batch: a model so small is all launches."""
    inputs = torch.zeros((batch, length), dtype=torch.long, device=model.device)
    targets = torch.zeros_like(inputs)
    _try_three_times(model, inputs, targets)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = token_loss(model, inputs, targets)
        loss.backward()

    def compute(new_inputs: torch.Tensor, new_targets: torch.Tensor) -> torch.Tensor:
        inputs.copy_(new_inputs.pin_memory(), non_blocking=True)
        targets.copy_(new_targets.pin_memory(), non_blocking=True)
        graph.replay()
        return loss.detach().clone()

    return compute


def _try_three_times(model: GPTNeoXForCausalLM, inputs: torch.Tensor, targets: torch.Tensor) -> None:
    """Libraries set themselves up on first use, which cannot be recorded; a recording needs a stream of its own."""
    model.train()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            token_loss(model, inputs, targets).backward()
            model.zero_grad()
    torch.cuda.current_stream().wait_stream(side)
