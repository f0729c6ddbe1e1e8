"""Where the parts of a model are, and which models are refused, in one line that names the architecture."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from scale.errors import UserError
from scale.model.architecture import read_architecture
from zoo import COMMON, EXPERTS, TOKENS, ZOO, build


def refusal(model: Any) -> str:
    with pytest.raises(UserError) as error:
        read_architecture(model)
    assert "\n" not in str(error.value)
    return str(error.value)


def from_settings(kind: str, **settings: Any) -> Any:
    """A model without memory behind its weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(COMMON | settings)))


@pytest.mark.parametrize("name", ZOO)
def test_depth_width_and_tying_are_the_models(name: str) -> None:
    model = build(name)
    architecture = read_architecture(model)
    states: list[Any] = []
    for block in model.get_submodule(architecture.blocks):
        block.register_forward_pre_hook(lambda module, args, kwargs: states.append((args, kwargs)), with_kwargs=True)
    model(TOKENS, use_cache=False)
    read = [args[0] if args else kwargs["hidden_states"] for args, kwargs in states]
    assert [tuple(state.shape[-1:]) for state in read] == [(architecture.width,)] * architecture.layers
    assert architecture.tied is (model.get_input_embeddings().weight is model.get_output_embeddings().weight)
    assert model.get_parameter(architecture.embedding) is model.get_input_embeddings().weight
    assert model.get_parameter(architecture.unembedding) is model.get_output_embeddings().weight


@pytest.mark.parametrize("name", ["gpt_neox", "llama", "opt", "mixtral"])
def test_a_model_without_weights_is_read_like_one_with_them(name: str) -> None:
    kind, settings = ZOO[name]
    assert read_architecture(from_settings(kind, **settings)) == read_architecture(build(name))


def test_an_architecture_nobody_listed_is_read_if_its_names_are_the_usual_ones() -> None:
    model = build("llama")
    expected = read_architecture(model)
    model.config = copy.deepcopy(model.config)
    model.config.model_type = "unheard-of"
    assert read_architecture(model) == expected


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "phi3", "codegen"])
def test_the_order_of_a_fused_projection_is_not_guessed(name: str) -> None:
    model = build(name)
    model.config = copy.deepcopy(model.config)
    model.config.model_type = "unheard-of"
    assert "'unheard-of' is not known to Balmer: a block has no attention with q_proj, k_proj, v_proj" in refusal(model)


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("bert", {"is_decoder": True}, "a block has no attention with q_proj, k_proj, v_proj"),
        ("bart", {"decoder_layers": 3, "encoder_layers": 3}, "several attention modules, self_attn and encoder_attn"),
        ("deepseek_v3", {}, "a block has no attention with q_proj, k_proj, v_proj"),  # latent keys and values
        ("diffllama", {}, "its attention has lambda_q1, which"),  # heads are mixed in pairs
        ("doge", {}, "which Balmer does not know"),
        ("mamba", {}, "a block has no attention"),
        ("lfm2", {"layer_types": ["conv", "full_attention", "conv"]}, "a block has no attention"),
        ("xlm", {"n_layers": 3, "n_heads": 4, "emb_dim": 32}, "4 lists of 3 blocks"),
        ("dots3_note_text", {"num_key_value_heads": 4}, "gives no single number of attention heads"),  # one a layer
        ("gemma3", {}, "it is a model of more than text"),
        ("mimo_v2_flash", EXPERTS | {"num_key_value_heads": 2}, "its attention has sinks, which"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(kind: str, settings: dict[str, Any], reason: str) -> None:
    said = refusal(from_settings(kind, **settings))
    assert said.startswith(f"model.path: architecture '{kind}' is not known to Balmer: ")
    assert reason in said


def test_a_configuration_without_a_number_of_heads_is_refused() -> None:
    from transformers import PretrainedConfig

    model = build("llama")
    model.config = PretrainedConfig(num_hidden_layers=3)
    assert "its configuration gives no single number of attention heads" in refusal(model)


def test_blocks_that_differ_are_refused() -> None:
    model = build("llama with biases")
    attention = model.model.layers[2].self_attn
    attention.q_proj.bias = None
    assert "its blocks differ in their attention" in refusal(model)


def test_blocks_that_share_parameters_are_refused() -> None:
    model = build("llama")
    model.model.layers[2].mlp = model.model.layers[1].mlp
    assert "its blocks share parameters" in refusal(model)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("model.layers.{}.self_attn.gain", "its attention has gain"),
        ("model.layers.{}.gain", "its blocks have gain"),
    ],
)
def test_a_parameter_of_unknown_purpose_is_refused(place: str, reason: str) -> None:
    """It might belong to a head, or to none, and nobody would notice."""
    model = build("llama")
    for layer in range(3):
        owner, _, name = place.format(layer).rpartition(".")
        model.get_submodule(owner).register_parameter(name, torch.nn.Parameter(torch.ones(4)))
    assert f"{reason}, which Balmer does not know" in refusal(model)


@pytest.mark.parametrize(
    ("module", "sizes", "reason"),
    [
        ("q_proj", (32, 96), "are not 4 heads of one size"),  # a gate beside the queries, as in Qwen3-Next
        ("v_proj", (32, 36), "are not 4 heads of one size"),
        ("o_proj", (46, 32), "o_proj reads 46 numbers"),
    ],
)
def test_sizes_that_do_not_fit_the_heads_are_refused(module: str, sizes: tuple[int, int], reason: str) -> None:
    model = build("llama")
    for layer in model.model.layers:
        setattr(layer.self_attn, module, torch.nn.Linear(*sizes, bias=False))
    assert reason in refusal(model)
