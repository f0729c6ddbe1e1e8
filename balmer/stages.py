"""The stages in order: what each is called, which settings and which earlier stages it depends on, and what makes it.

This table is the whole order of a run. A stage is made by ``make(workspace, *settings)``, found by name so that nothing
heavy is imported until it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from balmer.config import RunConfig


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
        control: The control that its maker is for; empty for a run's own.
        beside: What else it reads if it is there, in folders that are no stages.
    """

    name: str
    what: str
    maker: str
    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    version: int = 1
    control: str = ""
    beside: tuple[str, ...] = ()

    def make(self) -> Callable[..., dict[str, Any]]:
        function: Callable[..., dict[str, Any]] = import_module(self.maker).make
        return function


#: The run beside its controls (`balmer controls`).
BESIDE = "controls"

STAGES = (
    Stage("corpus", "text into contexts", "scale.corpus.stage", ("model", "corpus"), ()),
    Stage("taps", "what predictions read of a token", "scale.taps.stage", ("model", "sgld", "taps"),
          ("corpus",), version=3),
    Stage("draws", "posterior draws of every component", "scale.draws.stage", ("model", "sgld"), ("corpus",),
          version=3),
    Stage("chi", "susceptibilities", "scale.chi.stage", ("model", "sgld", "probe"), ("corpus", "draws"), version=4),
    Stage("aux", "the auxiliary model", "aux.stage", ("aux",), ("chi", "taps"), version=3),
    Stage("upsampled", "prediction over the large corpus", "aux.upsample", ("model", "upsample"),
          ("corpus", "taps", "aux"), version=2),
    Stage("clusters", "the search for clusters", "cluster.stage", ("cluster",), ("aux", "upsampled"), version=3),
    Stage("leakage", "whether to believe them", "eval.stage", ("model", "aux", "cluster", "leakage"),
          ("corpus", "chi", "taps", "aux", "upsampled", "clusters"), version=3),
    Stage("report", "the page to look at", "cluster.report.stage", ("report",),
          ("corpus", "draws", "chi", "taps", "aux", "upsampled", "clusters", "leakage"), version=4,
          beside=(BESIDE,)),
)  # fmt: skip

#: Makers of the stage `aux` in controls that change nothing before it.
CONTROLLED = {"permuted": "eval.control_permuted", "activations": "eval.control_activations"}

NAMES = tuple(stage.name for stage in STAGES)


def stage_named(name: str) -> Stage:
    return STAGES[NAMES.index(name)]


def stages_of(config: RunConfig) -> tuple[Stage, ...]:
    """The stages of a run, or of a control."""
    maker = CONTROLLED.get(config.control)
    if maker is None:
        return STAGES
    return tuple(replace(s, maker=maker, control=config.control) if s.name == "aux" else s for s in STAGES)
