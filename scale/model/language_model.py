"""Loading a causal language model and its tokenizer, with every mistake named before any work is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scale.config import ModelConfig
from scale.engine import per_worker
from scale.errors import UserError
from scale.model.architecture import Architecture, read_architecture
from scale.model.behaviour import Behaviour, observe
from scale.model.modules import Owners, owners_of
from scale.model.unembedding import Unembedding, read_unembedding
from scale.store import file_digest

#: Workers load one after another: while transformers loads, it replaces functions of its own (initialisation, the tying
#: of embeddings) and puts back what it found, which with two at a time may be the other's replacement.
LOADING = threading.Lock()


@dataclass(frozen=True)
class LanguageModel:
    """A model in evaluation mode, none of its parameters asking for gradients, and where its parts are."""

    model: nn.Module
    architecture: Architecture
    unembedding: Unembedding
    behaviour: Behaviour
    parameters: Mapping[str, nn.Parameter]
    owners: Owners

    @property
    def output_module(self) -> nn.Module:
        """The module that makes logits."""
        module: nn.Module = self.model.get_output_embeddings()  # type: ignore[operator]
        return module

    @property
    def unembedding_names(self) -> tuple[str, str]:
        """The parameters of the unembedding, weight and bias, whether or not there is a bias."""
        return self.architecture.unembedding, f"{self.architecture.output}.bias"

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def multiplied(self, start: int = 0) -> int:
        """Parameters in the matrices that a token's pass meets from block ``start`` on, unembedding included."""
        blocks = tuple(f"{self.architecture.block(layer)}." for layer in range(start, self.architecture.layers))
        own = sum(p.numel() for name, p in self.parameters.items() if name.startswith(blocks)) if blocks else 0
        return own + self.unembedding.weight.numel()

    def share(self, start: int) -> float:
        """What a pass from block ``start`` on costs of a whole one, by the sizes of the matrices it meets."""
        return self.multiplied(start) / self.multiplied()

    @classmethod
    def wrap(cls, model: nn.Module) -> LanguageModel:
        model.eval().requires_grad_(False)
        for parameter in model.parameters():
            check_precision(parameter.dtype, parameter.device)
        architecture, unembedding = read_architecture(model), read_unembedding(model)
        behaviour = observe(model, architecture, unembedding)
        return cls(model, architecture, unembedding, behaviour, dict(model.named_parameters()), owners_of(model))


@contextmanager
def borrowed(model: nn.Module) -> Iterator[LanguageModel]:
    """Another's model, wrapped; afterwards every module trains and every parameter asks for gradients as before."""
    modes = [(module, module.training) for module in model.modules()]
    wishes = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield LanguageModel.wrap(model)
    finally:
        for module, training in modes:
            module.training = training
        for parameter, wish in wishes:
            parameter.requires_grad_(wish)


def check_precision(dtype: torch.dtype, device: torch.device) -> None:
    if dtype == torch.float16 and device.type == "cpu":
        raise UserError("model.dtype: float16 is not supported on model.device: cpu; use float32 or bfloat16")


def choose_device(config: ModelConfig) -> torch.device:
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"model.device: {name!r} is not a device; use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"model.device: {name} asked for, but torch sees no GPU; use cpu or auto")
    check_precision(getattr(torch, config.dtype), device)
    return device


def is_local(path: str) -> bool:
    """A folder that exists, or a path that can only mean a folder; anything else is a name on the hub."""
    return Path(path).exists() or path.startswith((".", "/", "~")) or path.count("/") > 1


def check_folder(path: str, weights: bool = True) -> None:
    """The mistakes that transformers would report in many lines, or only after a search of the network."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"model.path: {path} is not a folder; give a model folder or a name on the hub")
    if not (folder / "config.json").is_file():
        raise UserError(f"model.path: {path} has no config.json; it is not a model saved by transformers")
    if weights and not any(folder.glob("*.safetensors")) and not any(folder.glob("pytorch_model*.bin")):
        raise UserError(f"model.path: {path} has no weights (model.safetensors); copy them into the folder")


def reading(path: str) -> str:
    return f"model.path: cannot read {path}"


def load_config(config: ModelConfig, weights: bool = True) -> Any:
    """The model's configuration; a folder must hold ``weights`` unless they are not asked for."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if not config.path:
        raise UserError("model.path is empty; give a model folder or a name on the hub")
    if is_local(config.path):
        check_folder(config.path, weights)
    try:
        found = AutoConfig.from_pretrained(config.path, revision=config.revision)
    except (OSError, ValueError) as error:
        raise UserError(f"{reading(config.path)}: {first_line(error)}") from error
    architectures = getattr(found, "architectures", None) or []
    if architectures and not set(architectures) & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()):
        raise UserError(f"model.path: {config.path} holds {architectures[0]}, which is not a causal language model")
    return found


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


@per_worker
def load_language_model(config: ModelConfig) -> LanguageModel:
    """The model of a run, kept by every worker."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    load_config(config)
    device = choose_device(config)
    logging.disable_progress_bar()
    try:
        with LOADING:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                config.path, revision=config.revision, dtype=getattr(torch, config.dtype), output_loading_info=True
            )
        model, report = loaded
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{reading(config.path)}: {first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(f"model.path: {config.path} lacks weights, {missing[0]} for one ({len(missing)} in all)")
    return LanguageModel.wrap(model.to(device))


#: One of these holds a tokenizer's vocabulary; without any, transformers makes up an empty tokenizer.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def load_tokenizer(config: ModelConfig) -> Any:
    """The model's own tokenizer, refused if it makes ids that the model has no embedding for."""
    from transformers import AutoTokenizer

    model_config = load_config(config)
    if is_local(config.path) and not any((Path(config.path) / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"model.path: {config.path} has no tokenizer; copy the model's tokenizer.json there")
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.path, revision=config.revision)
    except (OSError, ValueError) as error:
        raise UserError(f"model.path: {config.path} has no tokenizer that loads: {first_line(error)}") from error
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= model_config.vocab_size:
        raise UserError(
            f"model.path: the tokenizer in {config.path} makes ids up to {highest}, "
            f"the model embeds {model_config.vocab_size}; use the tokenizer the model was trained with"
        )
    return tokenizer


def model_identity(config: ModelConfig) -> Mapping[str, str]:
    """What the model is, by content: checksums of a folder's files, or the commit of a hub model."""
    if is_local(config.path):
        check_folder(config.path)
        wanted = ("*.json", "*.safetensors", "*.bin", "*.txt", "*.model")
        files = sorted({p for pattern in wanted for p in Path(config.path).glob(pattern)})
        return {p.name: file_digest(p)[:16] for p in files}
    return {"hub": config.path, "revision": config.revision, "commit": cached_commit(config)}


def cached_commit(config: ModelConfig) -> str:
    """The commit that the hub's cache holds for this revision, or "not downloaded"."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(config.path, "config.json", revision=config.revision)
    return Path(found).parent.name if isinstance(found, str) else "not downloaded"
