"""A small random model of every architecture that Balmer is tested with: three blocks, four heads.

Settings are those in which an architecture differs from the others: grouped queries and heads whose size is not width
over heads wherever it has them, biases, experts, several layouts of one name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from scale.model.architecture import Architecture
from scale.model.slices import Slice

VOCABULARY = 61
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PAIRS = {"num_key_value_heads": 2}
OWN = {"num_key_value_heads": 4}
WIDE = {"num_key_value_heads": 2, "head_dim": 12}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
GPT2 = {"n_inner": 40}
DBRX = {
    "d_model": 32,
    "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
    "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
}

#: Name in the tests -> (model_type, settings).
ZOO: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neox sequential, without biases": ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False}),
    "gpt_neox_japanese": ("gpt_neox_japanese", {"intermediate_multiple_size": 1}),
    "gpt2": ("gpt2", GPT2),
    "gpt2 untied": ("gpt2", {**GPT2, "tie_word_embeddings": False}),
    "openai-gpt": ("openai-gpt", {}),
    "gpt_bigcode, one set of keys": ("gpt_bigcode", {**GPT2, "multi_query": True}),
    "gpt_bigcode": ("gpt_bigcode", {**GPT2, "multi_query": False}),
    "gpt_neo": ("gpt_neo", {"num_layers": 3, "attention_types": [[["global", "local", "global"], 1]]}),
    "gptj": ("gptj", {**GPT2, "rotary_dim": 4}),
    "codegen": ("codegen", {**GPT2, "num_attention_heads": 8, "rotary_dim": 2}),
    "llama": ("llama", WIDE),
    "llama with biases": ("llama", {**OWN, "attention_bias": True, "mlp_bias": True}),
    "llama, one set of keys": ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "mistral": ("mistral", WIDE),
    "ministral": ("ministral", WIDE),
    "ministral3": ("ministral3", WIDE),
    "mixtral": ("mixtral", {**PAIRS, **EXPERTS}),
    "qwen2": ("qwen2", PAIRS),
    "qwen2_moe": ("qwen2_moe", {**PAIRS, **EXPERTS, "shared_expert_intermediate_size": 24}),
    "qwen2_moe with a dense layer": ("qwen2_moe", {**PAIRS, **EXPERTS, "mlp_only_layers": [1]}),
    "qwen3": ("qwen3", WIDE),
    "qwen3_moe": ("qwen3_moe", {**WIDE, **EXPERTS}),
    "gemma": ("gemma", WIDE),
    "gemma2": ("gemma2", {**WIDE, "query_pre_attn_scalar": 12}),
    "gemma3_text": ("gemma3_text", WIDE),
    "vaultgemma": ("vaultgemma", WIDE),
    "phi": ("phi", PAIRS),
    "phi with norms of queries and keys": ("phi", {**PAIRS, "qk_layernorm": True}),
    "phi3": ("phi3", PAIRS),
    "phimoe": ("phimoe", {**PAIRS, **EXPERTS, "attention_bias": True, "lm_head_bias": True}),
    "olmo": ("olmo", PAIRS),
    "olmo2": ("olmo2", PAIRS),
    "olmo3": ("olmo3", PAIRS),
    "olmoe": ("olmoe", {**PAIRS, **EXPERTS}),
    "flex_olmo": ("flex_olmo", {**PAIRS, **EXPERTS}),
    "stablelm": ("stablelm", {**PAIRS, "use_qkv_bias": True}),
    "stablelm with a norm for every head": ("stablelm", {**OWN, "qk_layernorm": True, "use_parallel_residual": True}),
    "starcoder2": ("starcoder2", PAIRS),
    "opt": ("opt", {"ffn_dim": 40}),
    "opt with narrow embeddings": ("opt", {"ffn_dim": 40, "word_embed_proj_dim": 20}),
    "opt, norms after": ("opt", {"ffn_dim": 40, "do_layer_norm_before": False}),
    "bloom": ("bloom", {}),
    "falcon, one set of keys": ("falcon", {"multi_query": True, "ffn_hidden_size": 40}),
    "falcon in groups": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 40}),
    "falcon": ("falcon", {"multi_query": False, "alibi": True, "bias": True, "ffn_hidden_size": 40}),
    "mpt": ("mpt", {"expansion_ratio": 2}),
    "dbrx": ("dbrx", DBRX),
    "cohere": ("cohere", PAIRS),
    "cohere with norms of queries and keys": ("cohere", {**PAIRS, "use_qk_norm": True}),
    "cohere2": ("cohere2", WIDE),
    "cohere2_moe": ("cohere2_moe", {**WIDE, **EXPERTS}),
    "granite": ("granite", PAIRS),
    "granite_swa": ("granite_swa", PAIRS),
    "granitemoe": ("granitemoe", {**PAIRS, **EXPERTS}),
    "granitemoe_swa": ("granitemoe_swa", {**PAIRS, **EXPERTS}),
    "granitemoeshared": ("granitemoeshared", {**PAIRS, **EXPERTS, "shared_intermediate_size": 24}),
    "smollm3": ("smollm3", PAIRS),
    "persimmon": ("persimmon", {}),
    "nemotron": ("nemotron", WIDE),
    "afmoe": ("afmoe", {**WIDE, **EXPERTS, "num_dense_layers": 1}),
    "apertus": ("apertus", PAIRS),
    "arcee": ("arcee", WIDE),
    "aria_text": ("aria_text", {**WIDE, "moe_num_experts": 4, "moe_topk": 2}),
    "biogpt": ("biogpt", {}),
    "bitnet": ("bitnet", PAIRS),
    "ctrl": ("ctrl", {"dff": 40}),
    "cwm": ("cwm", WIDE),
    "dots1": ("dots1", {**PAIRS, **EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1}),
    "ernie4_5": ("ernie4_5", WIDE),
    "ernie4_5_moe": ("ernie4_5_moe", {**PAIRS, **EXPERTS, "moe_num_experts": 4, "moe_k": 2}),
    "exaone4": ("exaone4", PAIRS),
    "exaone_moe": ("exaone_moe", {**PAIRS, **EXPERTS}),
    "glm": ("glm", {**WIDE}),
    "glm4": ("glm4", {**WIDE}),
    "glm4_moe": ("glm4_moe", {**WIDE, **EXPERTS, "n_routed_experts": 4}),
    "gpt_oss": ("gpt_oss", {**WIDE, **EXPERTS}),
    "helium": ("helium", {"num_key_value_heads": 2, "head_dim": 8}),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", {**WIDE}),
    "hunyuan_v1_moe": ("hunyuan_v1_moe", {**WIDE, **EXPERTS, "moe_topk": 2}),
    "hy_v3": ("hy_v3", {**WIDE, **EXPERTS}),
    "hyperclovax": ("hyperclovax", {**WIDE}),
    "internlm3": ("internlm3", {**WIDE}),
    "iquestcoder": ("iquestcoder", {**WIDE}),
    "jais2": ("jais2", {**WIDE}),
    "kolibri1": ("kolibri1", {**WIDE, **EXPERTS}),
    "llama4_text": ("llama4_text", {**WIDE, **EXPERTS}),
    "mellum": ("mellum", {**WIDE, **EXPERTS}),
    "minimax_m2": ("minimax_m2", {**WIDE, **EXPERTS}),
    "minimax_m3_vl_text": ("minimax_m3_vl_text", {**WIDE, **EXPERTS}),
    "nanochat": ("nanochat", PAIRS),
    "seed_oss": ("seed_oss", WIDE),
    "solar_open": ("solar_open", {**WIDE, **EXPERTS, "n_routed_experts": 4}),
    "flint": ("flint", {**WIDE, **EXPERTS}),
    "xglm": ("xglm", {"ffn_dim": 40}),
}


@functools.cache
def configuration(name: str) -> Any:
    from transformers import AutoConfig

    kind, settings = ZOO[name]
    return AutoConfig.for_model(kind, **(COMMON | settings))


def build(name: str) -> Any:
    """The model, with every weight random: biases and norms that start at 0 and 1 would hide mistakes."""
    from transformers import AutoModelForCausalLM

    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configuration(name)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def view(model: Any, piece: Slice) -> torch.Tensor:
    """The numbers of a slice, in the model's own memory."""
    whole = dict(model.named_parameters())[piece.parameter].detach()
    return whole if piece.axis is None else whole.narrow(piece.axis, piece.start, piece.stop - piece.start)


def counts(model: Any, slices: Iterable[Slice]) -> dict[str, torch.Tensor]:
    """For every parameter touched, how many of the slices hold each of its numbers."""
    found: dict[str, torch.Tensor] = {}
    for piece in slices:
        whole = dict(model.named_parameters())[piece.parameter]
        count = found.setdefault(piece.parameter, torch.zeros(whole.shape, dtype=torch.int32))
        (count if piece.axis is None else count.narrow(piece.axis, piece.start, piece.stop - piece.start)).add_(1)
    return found


@contextmanager
def changed(model: Any, slices: Sequence[Slice], factor: float | None = None) -> Iterator[None]:
    """Within, the numbers of ``slices`` are others: multiplied by ``factor``, or with noise added."""
    generator = torch.Generator().manual_seed(1)
    before = [view(model, piece).clone() for piece in slices]
    for piece, values in zip(slices, before, strict=True):
        noise = torch.randn(values.shape, generator=generator)
        view(model, piece).copy_(values + noise if factor is None else factor * values)
    yield
    for piece, values in zip(slices, before, strict=True):
        view(model, piece).copy_(values)


@dataclass(frozen=True)
class Seen:
    """One forward pass: what one block's output projection read and wrote, what blocks wrote, and the logits."""

    read: torch.Tensor
    written: torch.Tensor
    states: list[torch.Tensor]
    logits: torch.Tensor

    def heads(self, count: int) -> torch.Tensor:
        """What the output projection read, (contexts, T, heads, size)."""
        return self.read.unflatten(-1, (count, -1))


TOKENS = torch.randint(0, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(2))


def see(model: Any, architecture: Architecture, layer: int = 1) -> Seen:
    """Run the model and watch, the attention of block ``layer`` in particular."""
    projected: list[tuple[torch.Tensor, torch.Tensor]] = []
    states: list[torch.Tensor] = []
    attention = model.get_submodule(architecture.attention_module(layer))
    output = attention.get_submodule(architecture.layout.output)
    hooks = [output.register_forward_hook(lambda module, args, out: projected.append((args[0], out)))]
    for block in model.get_submodule(architecture.blocks):
        hooks.append(block.register_forward_hook(lambda module, args, out: states.append(first(out))))
    logits = model(TOKENS, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    (read, written) = projected[0]
    return Seen(read, written, states, logits)


def first(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]
