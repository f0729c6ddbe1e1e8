"""The stages in order: what each is called, which settings and which earlier stages it depends on, and what makes it.

This table is the whole order of a run. A stage is made by ``make(workspace, *settings)``, found by name so that nothing
heavy is imported until it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One folder of a run.

    Args:
        name: The stage and its folder.
        what: A line for people.
        maker: Module whose ``make`` makes it.
        settings: Sections of the run file that ``make`` is called with, in order.
        inputs: Earlier stages it reads.
        version: Raised when the code changes what the stage writes, so that old folders are made again.
    """

    name: str
    what: str
    maker: str
    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    version: int = 1

    def make(self) -> Callable[..., dict[str, Any]]:
        function: Callable[..., dict[str, Any]] = import_module(self.maker).make
        return function


STAGES = (
    Stage("corpus", "text into contexts", "scale.corpus", ("model", "corpus"), ()),
    Stage("taps", "what predictions read of a token", "scale.taps", ("model", "sgld", "taps"), ("corpus",), version=2),
    Stage("draws", "posterior draws of every component", "scale.draws", ("model", "sgld"), ("corpus",), version=2),
    Stage("chi", "susceptibilities", "scale.chi", ("model", "sgld", "probe"), ("corpus", "draws"), version=3),
    Stage("aux", "the auxiliary model", "aux.stage", ("aux",), ("chi", "taps"), version=3),
    Stage("upsampled", "prediction over the large corpus", "aux.upsample", ("model", "upsample"),
          ("corpus", "taps", "aux"), version=2),
    Stage("clusters", "the search for clusters", "cluster.stage", ("cluster",), ("aux", "upsampled"), version=3),
    Stage("leakage", "whether to believe them", "eval.stage", ("aux", "leakage"),
          ("corpus", "chi", "taps", "aux", "upsampled", "clusters"), version=2),
    Stage("report", "the page to look at", "cluster.report.stage", ("report",),
          ("corpus", "draws", "chi", "taps", "aux", "upsampled", "clusters", "leakage")),
)  # fmt: skip

NAMES = tuple(stage.name for stage in STAGES)


def stage_named(name: str) -> Stage:
    return STAGES[NAMES.index(name)]
