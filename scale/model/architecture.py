"""Where a causal language model of transformers keeps its parts: blocks, attention, heads, MLPs, norms, embeddings.

Nothing is looked up by architecture but the order inside fused projections (`scale.model.layouts`). The rest is found
in the model's own structure: the one list of as many blocks as the configuration says, the one attention module in each
block, and in what is left of a block its norms and its MLP. What does not fit this picture is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from scale.errors import UserError
from scale.model.layouts import (
    FUSED,
    SEPARATE,
    Heads,
    StructureError,
    is_matrix,
    is_norm,
    projections,
    read_heads,
)
from scale.model.slices import Slice, within

T = TypeVar("T")

#: What comes after the blocks, by name, beside the unembedding. Anything not listed counts as coming before them,
#: which is never wrong: it is only slower.
AFTER_BLOCKS = (
    *("norm", "ln_f", "norm_f", "final_layer_norm", "final_layernorm", "final_norm", "layer_norm", "layernorm"),
    "project_out",
)
#: Parts of a block that together are its MLP, where there are several.
SEVERAL = (("block_sparse_moe", "shared_mlp"),)


@dataclass(frozen=True)
class Architecture:
    """The shape of one loaded model, told by names of its modules and parameters.

    ``attention`` and ``mlp`` are names of modules within a block, ``output`` of the module that makes logits.
    ``embedding`` and ``unembedding`` are names of matrices; tied, they are one, by the name it was registered under
    first.
    """

    blocks: str
    layers: int
    attention: str
    mlp: tuple[str, ...]
    layout: Heads
    embedding: str
    unembedding: str
    output: str

    @property
    def heads(self) -> int:
        return self.layout.heads

    @property
    def groups(self) -> int:
        """Sets of keys and values in a block; as many as heads unless queries are grouped."""
        return self.layout.groups

    @property
    def width(self) -> int:
        return self.layout.width

    @property
    def tied(self) -> bool:
        return self.embedding == self.unembedding

    def block(self, layer: int) -> str:
        return f"{self.blocks}.{layer}"

    def attention_module(self, layer: int) -> str:
        return f"{self.block(layer)}.{self.attention}"

    def mlp_modules(self, layer: int) -> tuple[str, ...]:
        return tuple(f"{self.block(layer)}.{name}" for name in self.mlp)

    def head_slices(self, layer: int, head: int) -> tuple[Slice, ...]:
        return within(self.attention_module(layer), self.layout.head(head))

    def group_slices(self, layer: int, group: int) -> tuple[Slice, ...]:
        return within(self.attention_module(layer), self.layout.group(group))

    def layer_of(self, parameter: str) -> int | None:
        """The block a parameter is in."""
        if not parameter.startswith(f"{self.blocks}."):
            return None
        return int(parameter.removeprefix(f"{self.blocks}.").partition(".")[0])

    def start_of(self, parameter: str) -> int:
        """The first block whose output the parameter can change; `layers` if it comes after all of them."""
        layer = self.layer_of(parameter)
        if layer is not None:
            return layer
        owner = self.blocks.rpartition(".")[0]
        after = (self.output, *(f"{owner}.{name}" for name in AFTER_BLOCKS))
        return self.layers if parameter.startswith(tuple(f"{name}." for name in after)) else 0


def read_architecture(model: nn.Module) -> Architecture:
    config: Any = model.config
    try:
        return discover(model, config)
    except StructureError as reason:
        raise UserError(f"model.path: architecture {config.model_type!r} is not known to Balmer: {reason}") from reason


def discover(model: Any, config: Any) -> Architecture:
    heads = number_of_heads(config)
    name, blocks = find_blocks(model, config)
    attention = common("attention", [find_attention(block, config.model_type) for block in blocks])
    layouts = [read_heads(block.get_submodule(attention), config.model_type, heads) for block in blocks]
    output = find_output(model)
    return Architecture(
        blocks=name,
        layers=len(blocks),
        attention=attention,
        mlp=common("MLP", [find_mlp(block, attention) for block in blocks]),
        layout=common("attention", layouts),
        embedding=weight_name(model, model.get_input_embeddings()),
        unembedding=weight_name(model, model.get_submodule(output)),
        output=output,
    )


def common(what: str, found: list[T]) -> T:
    """What all blocks have in common: components are named alike in every layer."""
    if any(other != found[0] for other in found):
        raise StructureError(f"its blocks differ in their {what}")
    return found[0]


def number_of_heads(config: Any) -> int:
    """The configuration's, under whatever name: no weight's shape tells it."""
    if config.get_text_config() is not config:
        raise StructureError("it is a model of more than text")
    try:
        return int(config.num_attention_heads)
    except (AttributeError, RuntimeError) as error:  # none, or (RuntimeError) another one in every layer
        raise StructureError("its configuration gives no single number of attention heads") from error


def find_blocks(model: nn.Module, config: Any) -> tuple[str, nn.ModuleList]:
    """The one list of modules that is as long as the model is deep."""
    depth = getattr(config, "num_hidden_layers", None)
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth}
    outer = {n: m for n, m in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    if len(outer) != 1:
        raise StructureError(f"it has {len(outer) or 'no'} lists of {depth} blocks, where one is expected")
    name, blocks = outer.popitem()
    own = [n for n, _ in blocks.named_parameters()]
    if len(own) < len([n for n, _ in blocks.named_parameters(remove_duplicate=False)]):
        raise StructureError("its blocks share parameters")
    return name, blocks


def find_attention(block: nn.Module, model_type: str) -> str:
    """The one module in a block with query, key and value projections."""
    found = [name for name, module in block.named_modules() if projections(module, model_type)]
    if len(found) > 1:
        raise StructureError(f"its blocks have several attention modules, {' and '.join(found)}")
    if not found:
        raise StructureError(
            f"a block has no attention with {', '.join(SEPARATE[0])}, "
            f"and fused projections are known for {', '.join(FUSED)} only"
        )
    return found[0]


def find_mlp(block: nn.Module, attention: str) -> tuple[str, ...]:
    """What a block holds beside attention and norms: one module, or matrices in the block itself."""
    parts: dict[str, None] = {}
    for name, _ in block.named_parameters():
        owner, child = name.rpartition(".")[0], name.partition(".")[0]
        if name.startswith(f"{attention}.") or is_norm(block.get_submodule(owner)):
            continue
        if not owner or attention.startswith(f"{child}."):
            raise StructureError(f"its blocks have {name}, which Balmer does not know")
        parts[child] = None
    found = tuple(parts)
    if len(found) > 1 and found not in SEVERAL and not all(is_matrix(block.get_submodule(part)) for part in found):
        raise StructureError(
            f"its blocks have {', '.join(found)} beside attention and norms, where one MLP is expected"
        )
    return found


def find_output(model: Any) -> str:
    """The module that makes logits, found by identity: its name differs between versions of transformers."""
    output = model.get_output_embeddings()
    if not is_matrix(output):
        raise StructureError("it has no unembedding matrix")
    return next(name for name, module in model.named_modules() if module is output)


def weight_name(model: nn.Module, module: nn.Module) -> str:
    """The name of a module's weight; of a matrix that is registered twice, the first."""
    return next(name for name, parameter in model.named_parameters() if parameter is module.weight)
