"""The gradient of every token's loss along its own column of the residual stream.

The loss of token t is formed at position t - 1. How much a component's weights move it depends on what arrives there
from the loss: δ_l(t) = ∂l_t / ∂h_l(t - 1), the stream h_l that block l reads. A sum of losses gives all of them in one
backward pass if no loss reaches another position's stream. The only way from one position to another is through the
keys and values of attention, so that these are held constant: what remains is the path along the column itself, through
queries, MLPs and the residual stream. At the top it is the whole gradient; below, what other positions contribute is
left out. Like the losses, it knows nothing of later tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from scale.errors import UserError
from scale.model.forward import body, stream_seen
from scale.model.language_model import LanguageModel
from scale.model.losses import state_slopes

#: Attention as models write it, and which of its operands hold keys and values. In a product of two matrices they come
#: second; where the second is a weight, which asks for no gradient, holding it constant changes nothing.
KEYS_AND_VALUES: dict[Any, tuple[int, ...]] = {
    functional.scaled_dot_product_attention: (1, 2),
    torch.matmul: (1,),
    torch.bmm: (1,),
    torch.baddbmm: (2,),
    torch.Tensor.matmul: (1,),
    torch.Tensor.__matmul__: (1,),
    torch.Tensor.bmm: (1,),
    torch.Tensor.baddbmm: (2,),
}
NAMES = ("key", "value", "other", "mat2", "batch2")


class ConstantKeysAndValues(TorchFunctionMode):
    """Within, no gradient flows through the keys and values of attention."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func in KEYS_AND_VALUES:
            still = KEYS_AND_VALUES[func]
            args = tuple(part.detach() if index in still else part for index, part in enumerate(args))
            named |= {name: named[name].detach() for name in NAMES if name in named}
        return func(*args, **named)


@dataclass(frozen=True)
class Columns:
    """What the stream and its gradients are at some layers; the number of blocks stands for the top.

    Args:
        streams: What each block reads, (contexts, T, width).
        gradients: δ there, (contexts, T - 1, width): entry t - 1 belongs to the loss of token t.
        slopes: The gradient with respect to what the unembedding reads, of the same shape.
    """

    streams: list[torch.Tensor]
    gradients: list[torch.Tensor]
    slopes: torch.Tensor


def columns(language_model: LanguageModel, tokens: torch.Tensor, layers: Sequence[int]) -> Columns:
    """Streams and gradients at the given layers, from one pass forwards and one backwards."""
    caught: dict[int, torch.Tensor] = {}

    def see(layer: int, hidden: torch.Tensor) -> torch.Tensor:
        # To autograd, the lowest layer is where the model begins.
        caught[layer] = hidden.detach().requires_grad_() if layer == min(layers) else hidden
        return caught[layer]

    with torch.enable_grad(), ConstantKeysAndValues(), stream_seen(language_model, layers, see):
        states = body(language_model, tokens)
    streams = [caught[layer] for layer in layers]
    rows = states.detach()[:, :-1]
    slopes = state_slopes(rows.reshape(-1, rows.shape[-1]), tokens[:, 1:].reshape(-1), language_model.unembedding)
    slopes = slopes.view(rows.shape)
    # The last position predicts a token that is not there.
    gradients = torch.autograd.grad(states, streams, functional.pad(slopes, (0, 0, 0, 1)))
    return Columns([stream.detach() for stream in streams], [found[:, :-1] for found in gradients], slopes)


def check_columns(language_model: LanguageModel, tokens: torch.Tensor, layers: Sequence[int]) -> None:
    """Refuse a model in which a loss reaches other positions some other way: whose gradients know later tokens."""
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % len(language_model.unembedding.weight)
    before, after = (columns(language_model, ids, layers).gradients for ids in (tokens, changed))
    for one, other in zip(before, after, strict=True):
        gap = (one[:, :-1] - other[:, :-1]).abs().max()
        if not gap <= 1e-3 * one.abs().max():
            raise UserError(
                "taps.gradients: in this architecture a token's loss reaches other tokens by another way than "
                "attention; set taps.gradients: false"
            )
