"""Where each architecture of transformers keeps its parts: blocks, norms, heads, MLPs, embeddings.

A head's parameters are rows and columns of larger matrices; `Slice` says which. Weights only one head reads or writes
belong to it: its rows of the query, key and value projections with their biases, and its columns of the output
projection. The output bias belongs to no head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from scale.errors import UserError


@dataclass(frozen=True)
class Slice:
    """``parameter[start:stop]`` along ``axis``; the whole parameter if ``axis`` is None."""

    parameter: str
    axis: int | None = None
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Architecture:
    """The shape of one loaded model, told by names of its modules and parameters."""

    blocks: str
    heads: int
    layers: int
    width: int
    embedding: str
    unembedding: str
    head_slices: Callable[[int, int], tuple[Slice, ...]]
    mlp: str

    def block(self, layer: int) -> str:
        return f"{self.blocks}.{layer}"


def rows(name: str, start: int, stop: int) -> Slice:
    return Slice(name, 0, start, stop)


def columns(name: str, start: int, stop: int) -> Slice:
    return Slice(name, 1, start, stop)


def existing(model: nn.Module, slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
    """Those whose parameter the model has: biases are optional in most architectures."""
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return tuple(s for s in slices if s.parameter in names)


def gpt_neox(model: nn.Module, config: Any) -> Architecture:
    """Fused projection whose rows are ordered head, then query, key, value."""
    size = config.hidden_size // config.num_attention_heads

    def head_slices(layer: int, head: int) -> tuple[Slice, ...]:
        attention = f"gpt_neox.layers.{layer}.attention"
        fused = (3 * size * head, 3 * size * (head + 1))
        return existing(
            model,
            (
                rows(f"{attention}.query_key_value.weight", *fused),
                rows(f"{attention}.query_key_value.bias", *fused),
                columns(f"{attention}.dense.weight", size * head, size * (head + 1)),
            ),
        )

    return Architecture(
        blocks="gpt_neox.layers",
        heads=config.num_attention_heads,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        embedding="gpt_neox.embed_in.weight",
        unembedding=unembedding_name(model),
        head_slices=head_slices,
        mlp="mlp",
    )


def gpt2(model: nn.Module, config: Any) -> Architecture:
    """Fused projection stored transposed: columns ordered query, key, value, then head."""
    width, size = config.n_embd, config.n_embd // config.n_head

    def head_slices(layer: int, head: int) -> tuple[Slice, ...]:
        attention = f"transformer.h.{layer}.attn"
        parts: list[Slice] = []
        for part in range(3):
            span = (part * width + size * head, part * width + size * (head + 1))
            parts += [columns(f"{attention}.c_attn.weight", *span), rows(f"{attention}.c_attn.bias", *span)]
        return existing(model, (*parts, rows(f"{attention}.c_proj.weight", size * head, size * (head + 1))))

    return Architecture(
        blocks="transformer.h",
        heads=config.n_head,
        layers=config.n_layer,
        width=width,
        embedding="transformer.wte.weight",
        unembedding=unembedding_name(model),
        head_slices=head_slices,
        mlp="mlp",
    )


def llama(model: nn.Module, config: Any) -> Architecture:
    """Separate projections; with grouped queries, keys and values are shared and belong to no single head."""
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    own_keys = config.num_key_value_heads == heads

    def head_slices(layer: int, head: int) -> tuple[Slice, ...]:
        attention = f"model.layers.{layer}.self_attn"
        span = (size * head, size * (head + 1))
        projections = ("q_proj", "k_proj", "v_proj") if own_keys else ("q_proj",)
        parts = [rows(f"{attention}.{name}.{kind}", *span) for name in projections for kind in ("weight", "bias")]
        return existing(model, (*parts, columns(f"{attention}.o_proj.weight", *span)))

    return Architecture(
        blocks="model.layers",
        heads=heads,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        embedding="model.embed_tokens.weight",
        unembedding=unembedding_name(model),
        head_slices=head_slices,
        mlp="mlp",
    )


def unembedding_name(model: nn.Module) -> str:
    """The output embedding's parameter, found by identity: its module's name differs between versions.

    With tied embeddings this is the name under which the shared matrix is registered first.
    """
    matrix = model.get_output_embeddings().weight  # type: ignore[operator]
    return next(name for name, parameter in model.named_parameters() if parameter is matrix)


READERS: dict[str, Callable[[nn.Module, Any], Architecture]] = {
    "gpt_neox": gpt_neox,
    "gpt2": gpt2,
    "llama": llama,
    "mistral": llama,
    "qwen2": llama,
    "qwen3": llama,
}


def read_architecture(model: nn.Module) -> Architecture:
    config: Any = model.config
    if config.model_type not in READERS:
        known = ", ".join(sorted(READERS))
        raise UserError(f"model.path: architecture {config.model_type!r} is not known to Balmer; it knows {known}")
    return READERS[config.model_type](model, config)
