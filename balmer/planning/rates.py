"""How fast a machine does each kind of work: measured there, or known from elsewhere, as a small JSON file.

A file may hold some kinds only: the others are taken from the next file, or measured where the plan is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from scale.errors import UserError
from scale.model.operations import Shape

#: Every kind of work: its unit, and what it is in words.
KINDS: Mapping[str, tuple[str, str]] = {
    "blocks": ("operations/s", "passes through blocks"),
    "block gradients": ("operations/s", "gradients through blocks"),
    "unembedding": ("operations/s", "token losses"),
    "unembedding gradients": ("operations/s", "gradients of losses"),
    "perturbation": ("weights/s", "drawing weights"),
    "training": ("operations/s", "the auxiliary model"),
    "neighbours": ("operations/s", "pairs of points"),
    "regression": ("operations/s", "ridge regression"),
    "walks": ("1/ε per second", "walks"),
    "points": ("points/s", "graph and tables"),
    "sets": ("sets/s", "random sets"),
    "tokens": ("tokens/s", "tokenizing"),
    "disk": ("bytes/s", "writing"),
    "start": ("1/s", "loading libraries"),
    "training start": ("1/s", "loading libraries"),
}
#: Of the device that the model runs on; the rest is work of processors.
DEVICE = ("blocks", "block gradients", "unembedding", "unembedding gradients", "perturbation", "training", "neighbours")


@dataclass(frozen=True)
class Rates:
    """Per second, of one device or one processor core.

    Args:
        device: Kind of device: cpu or cuda.
        name: Of the device, in words.
        source: How the rates came about: "measured", or what they were read from.
        rates: By kind.
        shape: Of the model that they were measured with.
        walks_per_point: Walks that a search takes for every point.
        library_bytes: Memory of the libraries.
    """

    device: str
    name: str
    source: str
    rates: Mapping[str, float]
    shape: Shape | None = None
    walks_per_point: float | None = None
    library_bytes: int | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    def origin(self, kind: str) -> str:
        return self.origins.get(kind, f"{self.name}, {self.source}")


def written_rates(path: Path, rates: Rates) -> None:
    values = {key: value for key, value in asdict(rates).items() if value is not None and key != "origins"}
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_rates(path: Path) -> Rates:
    """A file of rates, with every mistake in it in one line."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"--rates: {path} does not exist; balmer plan RUN.yaml --measure {path} makes it") from error
    except (OSError, ValueError) as error:
        raise UserError(f"--rates: {path} is not JSON: {' '.join(str(error).split())}") from error
    return checked(values, path)


def checked(values: Any, path: Path) -> Rates:
    fields = {"device", "name", "source", "rates", "shape", "walks_per_point", "library_bytes"}
    if not isinstance(values, dict) or not {"device", "name", "source", "rates"} <= values.keys() <= fields:
        raise UserError(f"--rates: {path} must hold device, name, source and rates, as balmer plan --measure writes")
    rates = values["rates"]
    unknown = sorted(set(rates) - set(KINDS)) if isinstance(rates, dict) else [str(rates)]
    if unknown:
        raise UserError(f"--rates: {path} has a rate of {unknown[0]!r}; the kinds are {', '.join(KINDS)}")
    wrong = [kind for kind, rate in rates.items() if not (isinstance(rate, int | float) and rate > 0)]
    if wrong:
        raise UserError(f"--rates: {path}: the rate of {wrong[0]!r} must be a number above 0, got {rates[wrong[0]]!r}")
    if values["device"] not in ("cpu", "cuda"):
        raise UserError(f"--rates: {path}: device must be cpu or cuda, got {values['device']!r}")
    shape = Shape(**values["shape"]) if values.get("shape") else None
    return Rates(**{**values, "shape": shape})


def joined(found: Sequence[Rates]) -> Rates:
    """The first that has a rate gives it; the first says which device it is."""
    first = found[0]
    rates: dict[str, float] = {}
    origins: dict[str, str] = {}
    for one in found:
        for kind, rate in one.rates.items():
            if kind in DEVICE and one.device != first.device:
                continue
            if kind not in rates:
                rates[kind], origins[kind] = rate, one.origin(kind)
    return replace(
        first,
        rates=rates,
        origins=origins,
        shape=next((one.shape for one in found if one.shape), None),
        walks_per_point=next((one.walks_per_point for one in found if one.walks_per_point), None),
        library_bytes=next((one.library_bytes for one in found if one.library_bytes), None),
    )


def missing(rates: Rates) -> list[str]:
    return [kind for kind in KINDS if kind not in rates.rates]
