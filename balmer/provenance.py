"""What a stage is made from, as one flat mapping, so that "is it still valid?" is a comparison field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from balmer.config import RunConfig
from balmer.stages import Stage
from scale.store import Manifest

#: Said by content instead (`model_identity`, `corpus_identity`): moving a folder changes nothing.
PLACES = ("model.path", "model.revision", "corpus.path")


def identities(config: RunConfig) -> dict[str, Any]:
    """What the model and the text are, by content."""
    from scale.corpus.stage import corpus_identity
    from scale.model.language_model import model_identity

    return {
        **{f"model.files.{name}": digest for name, digest in model_identity(config.model).items()},
        **{f"corpus.source.{key}": value for key, value in corpus_identity(config.corpus).items()},
    }


def plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return list(value) if isinstance(value, tuple) else value


def made_from(
    stage: Stage, config: RunConfig, identity: Mapping[str, Any], inputs: Mapping[str, Manifest]
) -> dict[str, Any]:
    """Settings, identities and inputs of a stage; ``inputs`` holds the published manifests of what it reads, also of
    what is beside the stages."""
    fields: dict[str, Any] = {"stage.version": stage.version}
    if stage.control:
        fields["stage.control"] = stage.control
    for section in stage.settings:
        settings = {f"{section}.{key}": plain(value) for key, value in asdict(getattr(config, section)).items()}
        fields |= {key: value for key, value in settings.items() if key not in PLACES}
        fields |= {key: plain(value) for key, value in identity.items() if key.startswith(f"{section}.")}
    read = (*stage.inputs, *(name for name in stage.beside if name in inputs))
    return fields | {f"input.{name}": inputs[name].digest for name in read}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields that differ, as ``key: old -> new``."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"{key}: {show(old, key)} -> {show(new, key)}" for key in keys]


def show(fields: Mapping[str, Any], key: str) -> str:
    return str(fields[key]) if key in fields else "absent"
