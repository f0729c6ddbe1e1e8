"""The floating-point operations of a language model's matrix products, counted: for a token, from some block upwards.

For token losses these are the blocks from a component's own upwards and the unembedding; for gradients the same
forwards, the activations' gradients back to the component, and the gradient of its own weights. Attention is counted
causal. What lies below the component is the same for all draws and is not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scale.model.architecture import Architecture

Counts = Counter[str]


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Args:
        layers: Blocks.
        width: Of the residual stream.
        heads: Of each block.
        intermediate: Width of the MLP.
        vocabulary: Rows of the unembedding.
        projected: Numbers that queries, keys and values have together; 0 for three times the width.
        gated: Whether two matrices lead into the MLP.
    """

    layers: int
    width: int
    heads: int
    intermediate: int
    vocabulary: int
    projected: int = 0
    gated: bool = False


def shape_of_model(model: Any, architecture: Architecture) -> Shape:
    """Read from the model's matrices, which may be without memory. Of a mixture all experts count."""

    def matrices(modules: tuple[str, ...]) -> list[int]:
        own = tuple(f"{name}." for name in modules)
        return [p.numel() for name, p in model.named_parameters() if name.startswith(own) and p.ndim > 1]

    width = architecture.width
    attention, mlp = matrices((architecture.attention_module(0),)), matrices(architecture.mlp_modules(0))
    gated = len(mlp) > 2
    return Shape(
        layers=architecture.layers,
        width=width,
        heads=architecture.heads,
        intermediate=sum(mlp) // (width * (3 if gated else 2)),
        vocabulary=model.get_output_embeddings().weight.shape[0],
        projected=sum(attention) // width - width,
        gated=gated,
    )


def block_forward(shape: Shape, length: int) -> Counts:
    """Floating-point operations of one block per token, by kind of product."""
    width, inner = shape.width, shape.intermediate
    linear = {
        "qkv": 2 * width * (shape.projected or 3 * width),
        "dense": 2 * width**2,
        "up": 2 * width * inner * (2 if shape.gated else 1),
        "down": 2 * width * inner,
    }
    return Counter({**linear, "attention": 2 * width * (length + 1)})


def block_backward(shape: Shape, length: int) -> Counts:
    """Gradients of a block's activations: each linear product once, attention's two products twice."""
    forward = block_forward(shape, length)
    return forward + Counter({"attention": forward["attention"]})


def unembedding_forward(shape: Shape) -> int:
    """Of one token."""
    return 2 * shape.width * shape.vocabulary


def times(counts: Counts, factor: int) -> Counts:
    return Counter({kind: factor * count for kind, count in counts.items()})


def evaluation(shape: Shape, component: str, length: int) -> Counts:
    """One token at one draw."""
    blocks = shape.layers - start(shape, component)
    return times(block_forward(shape, length), blocks) + Counter({"unembed": unembedding_forward(shape)})


def step(shape: Shape, component: str, length: int) -> Counts:
    """One token of a minibatch in one step of a chain."""
    forward = evaluation(shape, component, length)
    if component == "unembed":
        return forward + Counter({"unembed": forward["unembed"]})  # the gradient of its weights
    above = shape.layers - start(shape, component) - (component != "embed")
    backward = times(block_backward(shape, length), above) + Counter({"unembed": forward["unembed"]})
    return forward + backward + own_backward(shape, component, length)


def own_backward(shape: Shape, component: str, length: int) -> Counts:
    """Within the component's own block: gradients of its activations as far as needed, and of its weights."""
    whole = block_forward(shape, length)
    if component == "embed":
        return Counter()
    if component.endswith("mlp"):
        return Counter({"up": whole["up"], "down": 2 * whole["down"]})
    parts = {"qkv": whole["qkv"], "dense": 2 * whole["dense"], "attention": 2 * whole["attention"]}
    return Counter({kind: count // shape.heads for kind, count in parts.items()})


def start(shape: Shape, component: str) -> int:
    if component == "embed":
        return 0
    if component == "unembed":
        return shape.layers
    layer = re.match(r"l(\d+)", component)
    assert layer is not None, component
    return int(layer[1])
