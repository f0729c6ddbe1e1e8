"""From a run file and flags to a `RunConfig`, and from every mistake in them to one line that names the key."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from balmer.config import RunConfig
from balmer.folder import RUN_FILE
from scale.errors import UserError
from scale.storage.objects import checked_url, is_url, open_objects

SHORT = {"--address": "--ray.address"}


def keys_of(kind: Any, prefix: str = "") -> list[str]:
    """Every key of the run file, dotted."""
    found = []
    for entry in fields(kind):
        default = entry.default_factory() if callable(entry.default_factory) else None
        if is_dataclass(default):
            found += keys_of(type(default), f"{prefix}{entry.name}.")
        else:
            found.append(prefix + entry.name)
    return found


def explain(message: str) -> str:
    """jsonargparse's words in ours: the key first, on one line, with the key that was probably meant."""
    flat = " ".join(message.split())
    if match := re.match(r"Group '([\w.]+)' does not accept option '([^']+)'", flat):
        return unknown(f"{match[1]}.{match[2]}")
    if match := re.match(r"Option '([^']+)' is not accepted", flat):
        return unknown(match[1])
    if match := re.match(r"unrecognized arguments: --([^\s=]+)", flat):
        return unknown(match[1])
    if match := re.match(r'Parser key "([\w.]+)": (.*)', flat):
        return f"{match[1]}: {match[2].replace(chr(60) + 'class ', '').replace(chr(39) + chr(62), chr(39))}"
    return flat


def unknown(key: str) -> str:
    near = get_close_matches(key, keys_of(RunConfig), n=1)
    return f"{key}: no such key" + (f"; did you mean {near[0]}?" if near else "; balmer run --help lists them")


def find_run_file(target: str) -> Path:
    """The run file itself, or the one inside a run folder."""
    path = Path(target)
    if path.is_dir():
        if not (path / RUN_FILE).is_file():
            raise UserError(f"{target}: not a run folder (it has no {RUN_FILE})")
        return path / RUN_FILE
    if not path.is_file():
        raise UserError(f"{target}: no such run file or run folder")
    return path


def check_yaml(path: Path) -> None:
    """Refuse what is not a mapping of keys, in words that name the file."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if found is not None and not isinstance(found, dict):
        raise UserError(f"{path}: expected keys such as folder, model and corpus, found {type(found).__name__}")


def settings_parser(program: str, description: str) -> ArgumentParser:
    parser = ArgumentParser(prog=program, description=description, exit_on_error=False, usage=f"{program} [options]")
    parser.add_argument("--config", action="config", help="A run file.")
    parser.add_class_arguments(RunConfig, nested_key=None)
    return parser


def in_full(argument: str) -> str:
    """Flags that have a short form."""
    flag, equals, value = argument.partition("=")
    return SHORT.get(flag, flag) + equals + value


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Any:
    try:
        return parser.instantiate(parser.parse_args([in_full(argument) for argument in arguments]))
    except (ArgumentError, TypeError) as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(explain(str(error))) from error


def absolute(path: str) -> str:
    """Local paths are taken from where the command was given; names on a hub stay as they are."""
    expanded = Path(path).expanduser()
    return str(expanded.resolve()) if path and expanded.exists() else path


def folder_of(name: str) -> str:
    """A local folder, absolute (``file://`` is one), or the URL of one on a store."""
    if name.startswith("file://"):
        name = url2pathname(urlsplit(name).path)
    return checked_url(name) if is_url(name) else str(Path(name).expanduser().absolute())


def resolved(parsed: Any) -> RunConfig:
    values = {entry.name: getattr(parsed, entry.name) for entry in fields(RunConfig)}
    config = RunConfig(**values)
    if not config.folder:
        raise UserError("folder is empty; name the run folder in the run file or with --folder")
    return replace(
        config,
        folder=folder_of(config.folder),
        model=replace(config.model, path=absolute(config.model.path)),
        corpus=replace(config.corpus, path=absolute(config.corpus.path)),
    )


def read_run(target: str, flags: Sequence[str] = ()) -> RunConfig:
    """The configuration of a run file or run folder, with flags on top."""
    if is_url(target) and not is_url(folder_of(target)):
        target = folder_of(target)
    if is_url(target):
        with downloaded(checked_url(target)) as path:
            return read_file(path, ["--folder", target, *flags])
    extra = ["--folder", target] if Path(target).is_dir() else []
    return read_file(find_run_file(target), [*extra, *flags])


def read_file(path: Path, flags: Sequence[str]) -> RunConfig:
    check_yaml(path)
    return resolved(parse(settings_parser("balmer run", ""), ["--config", str(path), *flags]))


@contextmanager
def downloaded(url: str) -> Iterator[Path]:
    """The run file of a run on a store."""
    found = open_objects(url).get(RUN_FILE)
    if found is None:
        raise UserError(f"{url}: not a run folder (it has no {RUN_FILE})")
    with TemporaryDirectory(prefix="balmer-") as place:
        path = Path(place) / RUN_FILE
        path.write_bytes(found.content)
        yield path


def fail(message: str, status: int = 2) -> int:
    print(f"balmer: {message}", file=sys.stderr)
    return status
