"""Stage `aux` of the control `activations`: in place of predictions come the activations themselves.

The "model" is linear: the leading principal components of the residual stream at the tapped layers, as many as
susceptibilities have coordinates, so that what comes after whitens and clusters activations as it does predictions.
"""

from __future__ import annotations

from typing import Any

import torch

from aux.config import AuxConfig
from aux.model import AuxModel, AuxShape
from aux.stage import fit_basis, tap_blocks
from aux.threads import computing_in
from cluster.whitening import Whitening
from scale.engine import Workspace
from scale.store import read_manifest, read_table
from scale.taps.stage import read_taps


def principal_map(components: torch.Tensor, mean: torch.Tensor, inputs: int) -> AuxModel:
    """The model x -> components (x - mean), (P, D) and (D,), of the first D of its inputs."""
    outputs, used = components.shape
    model = AuxModel(AuxShape(inputs, inputs, outputs, architecture="linear"))
    with torch.no_grad():
        model.decoder.weight.zero_()[:, :used] = components
    model.input_mean[:used] = mean
    return model


def make(work: Workspace, config: AuxConfig) -> dict[str, Any]:
    chi, taps = work.inputs["chi"], work.inputs["taps"]
    read, width = read_taps(taps), read_manifest(taps).facts["width"]
    used = width * len(read.layers)
    blocks = tap_blocks(taps, read_table(chi / "rows.parquet")["split"].to_numpy(), "truth")
    with computing_in(config.threads):
        basis = fit_basis(chi, config)
        found = Whitening.fit_stream((block[:, :used] for block in blocks), n_components=len(basis.variances))
    model = principal_map(
        torch.from_numpy(found.components).float(), torch.from_numpy(found.mean).float(), read.columns(width)
    )
    if len(found.components) < len(basis.variances):
        work.progress.say(f"  the activations vary in {len(found.components)} directions only")
    basis.save(work.folder)
    model.save(work.folder)
    return {"estimator": config.estimator, "pcs": len(found.components)}
