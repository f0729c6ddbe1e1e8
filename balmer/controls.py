"""Controls: the whole pipeline once more with one thing taken out of it, in a run folder beside the run.

    nbeta0       no loss in the posterior: chains of the localisation alone
    gaussian     isotropic noise of the same size in place of what was drawn
    permuted     the auxiliary model is taught the susceptibilities of other tokens
    activations  activations are clustered in place of predictions

A control is a setting of the run file (`control`), so that its folder is a run like any other. The first two change how
draws are made (section sgld), the other two what makes the stage `aux` (`balmer.stages`). Stages that come out the same
as the run's are linked, not made again: published files never change.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from balmer.config import CONTROLS, RunConfig
from balmer.folder import RunFolder
from balmer.provenance import identities, made_from
from balmer.stages import stages_of
from scale.costs import METHODS
from scale.errors import UserError
from scale.progress import Silent
from scale.store import Manifest, link_folder, publish


def control_folder(folder: str | Path, control: str) -> Path:
    return Path(f"{folder}-{control}")


def controlled(config: RunConfig, name: str) -> RunConfig:
    """The settings of a run's control."""
    control = next((known for known in CONTROLS if known == name), None)
    if control is None:
        raise UserError(f"--control {name}: no such control; the controls are {', '.join(CONTROLS)}")
    if config.control != "none":
        raise UserError(f"--control {control}: {config.folder} is itself the control {config.control}; name the run")
    sgld = config.sgld
    if control == "nbeta0" and METHODS[sgld.estimator].gaussian:
        raise UserError(
            f"--control nbeta0: sgld.estimator {sgld.estimator} takes N(w*, I/γ) for the posterior, which holds no "
            "loss: this run is that control; try --control gaussian, or set sgld.estimator to plain"
        )
    if control == "gaussian" and sgld.estimator == "tangent-gradient":
        raise UserError(
            "--control gaussian: sgld.estimator tangent-gradient carries gradients along its chains and has no draws "
            "to replace; set sgld.estimator to plain or mean-gradient"
        )
    if control == "nbeta0":
        sgld = replace(sgld, nbeta=0.0)
    if control == "gaussian":
        sgld = replace(sgld, sampler="gaussian")
    return replace(config, folder=str(control_folder(config.folder, control)), control=control, sgld=sgld)


def prepare(run: RunConfig, control: RunConfig) -> list[str]:
    """Link every stage of the run that the control would make the same; their names."""
    folder = RunFolder(Path(control.folder))
    folder.check()
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.lock(Silent().say):
        folder.write_run_file(control)
        return adopt(RunFolder(Path(run.folder)), folder, control, identities(control))


def adopt(run: RunFolder, folder: RunFolder, control: RunConfig, identity: dict[str, Any]) -> list[str]:
    valid: dict[str, Manifest] = {}
    linked = []
    for stage in stages_of(control):
        if any(name not in valid for name in stage.inputs):
            continue
        wanted = made_from(stage, control, identity, valid)
        own, theirs = folder.published(stage.name), run.published(stage.name)
        if own is not None and own.made_from == wanted:
            valid[stage.name] = own
        elif theirs is not None and theirs.made_from == wanted:
            part = folder.part_path(stage.name)
            link_folder(run.stage_path(stage.name), part)
            publish(part, folder.stage_path(stage.name))
            folder.close_part(stage)
            valid[stage.name] = theirs
            linked.append(stage.name)
    return linked
