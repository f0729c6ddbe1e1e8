"""Stage `aux` of the control `permuted`: the auxiliary model is taught susceptibilities of other tokens.

What was measured of the truth split changes places among the tokens of each shard, some documents' worth; held-out
documents are left as they are. Nothing can be learnt, and all that comes after is what the pipeline makes of nothing.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aux.config import AuxConfig
from aux.stage import block_splits
from aux.stage import make as make_aux
from scale.chi.stage import PARTS
from scale.engine import Workspace
from scale.store import Shards, read_table, shard_path, write_shard

PERMUTED = "permuted-chi"


def permute(chi: Path, folder: Path, seed: int) -> None:
    """Copy a `chi` stage, its truth rows having changed places; a shard that is there is not written again."""
    shards = Shards(chi)
    sizes = [len(block) for block in shards.blocks("loss")]
    owners = block_splits(sizes, read_table(chi / "rows.parquet")["split"].to_numpy())
    folder.mkdir(exist_ok=True)
    for path in chi.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    for index, (name, owner, size) in enumerate(zip(shards.names, owners, sizes, strict=True)):
        if shard_path(folder, name).exists():
            continue
        arrays = {path.stem: np.array(shards.read(name, path.stem)) for path in shard_path(chi, name).glob("*.npy")}
        if owner == "truth":
            order = np.random.default_rng([seed, index]).permutation(size)
            arrays |= {part: arrays[part][order] for part in PARTS}
        write_shard(folder, name, arrays)


def make(work: Workspace, config: AuxConfig) -> dict[str, Any]:
    place = work.folder / PERMUTED
    permute(work.inputs["chi"], place, config.seed)
    facts = make_aux(replace(work, inputs={**work.inputs, "chi": place}), config)
    shutil.rmtree(place)
    return facts
