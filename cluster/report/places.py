"""Every cluster's place on the map, and what to call the groups around it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cluster.report.centroids import centroids
from cluster.report.chunks import ChunkWriter
from cluster.report.dust import sample_rows, settle
from cluster.report.inputs import Inputs
from cluster.report.layout import Layout, lay_out
from cluster.report.numbers import rounded_array, rounded_list
from cluster.report.postings import Postings
from scale.store import Shards

# Steps of the grid that places are rounded to, and tokens that name a group.
GRID = 10_000
NAMES = 3
# Numbers per record of the sampled tokens.
DUST_PIECE = 1000


@dataclass(frozen=True)
class Places:
    """Layout and PC profile of the clusters, whose ids are 0, 1, 2, ..., and the places of a sample of tokens."""

    layout: Layout
    profile: NDArray[np.float64]
    dust: NDArray[np.float64]

    def rows(self, clusters: NDArray[np.int64]) -> list[list[int]]:
        """x and y on the grid, neighbourhood, region."""
        x, y = (self.layout.xy[clusters] * GRID).round().astype(np.int64).T
        groups = self.layout.neighbourhood[clusters], self.layout.region[clusters]
        return np.stack([x, y, *groups], axis=1).tolist()

    def nearest_of(self, clusters: NDArray[np.int64]) -> list[list[list[Any]]]:
        """Nearest clusters with their distances, nearest first."""
        others = self.layout.nearest[clusters].tolist()
        distances = rounded_array(self.layout.distances[clusters], 3)
        return [[list(pair) for pair in zip(*own, strict=True)] for own in zip(others, distances, strict=True)]


def find_places(inputs: Inputs, labels: NDArray[np.int32], clusters: pl.DataFrame, seed: int, steps: int) -> Places:
    """One pass over the predictions, then the layout of their means."""
    count = len(clusters)
    assert clusters["cluster"].to_list() == list(range(count)), "clusters must be numbered from 0"
    if count == 0:
        return Places(lay_out(np.zeros((0, 1)), seed, steps), np.zeros((0, 1)), np.zeros((0, 2)))
    shards = Shards(inputs.folders["upsampled"])
    found = centroids(labels, shards.blocks("coordinates"), count)
    layout = lay_out(found.whitened, seed, steps)
    sampled = found.whitening.transform(sample_rows(shards.blocks("coordinates"), len(labels)))
    return Places(layout, found.profile, settle(sampled, found.whitened, layout.xy))


def levels(places: Places, clusters: pl.DataFrame, targets: Postings) -> dict[str, list[list[Any]]]:
    """Both levels of groups: number, middle, clusters, tokens, and what names it (see `_names`)."""
    sizes = clusters["size"].to_numpy().astype(np.int64)
    groups = {"neighbourhoods": places.layout.neighbourhood, "regions": places.layout.region}
    return {name: _groups(places.layout.xy, own, sizes, targets) for name, own in groups.items()}


def write_dust(folder: Path, places: Places, limit: int) -> list[int]:
    """The sampled tokens, x and y alternately, some to a record."""
    writer = ChunkWriter(folder, "dust", limit)
    flat = (places.dust * GRID).round().astype(int).ravel().tolist()
    for start in range(0, len(flat), DUST_PIECE):
        writer.add(start, flat[start : start + DUST_PIECE])
    return writer.close()


def _groups(
    xy: NDArray[np.float64], own: NDArray[np.int64], sizes: NDArray[np.int64], targets: Postings
) -> list[list[Any]]:
    names = _names(own, targets)
    found = []
    for group in range(int(own.max()) + 1 if len(own) else 0):
        inside = np.flatnonzero(own == group)
        # the member nearest to the middle: a label never stands where there is nothing
        middle = xy[inside].mean(axis=0)
        at = xy[inside[np.argmin(np.square(xy[inside] - middle).sum(axis=1))]]
        place = rounded_list((at * GRID).round().tolist(), 6)
        found.append([group, *map(int, place), len(inside), int(sizes[inside].sum()), names.get(group, [])])  # type: ignore[arg-type]
    return found


def _names(own: NDArray[np.int64], targets: Postings) -> dict[int, list[int]]:
    """The predicted tokens that tell most of each group: largest count x log of its share over its share anywhere."""
    items, clusters, counts = targets.columns()
    if not len(items):
        return {}
    table = pl.DataFrame({"group": own[clusters], "item": items, "n": counts.astype(np.int64)})
    counted = table.group_by("group", "item").agg(pl.col("n").sum())
    inside = pl.col("n") / pl.col("n").sum().over("group")
    anywhere = pl.col("n").sum().over("item") / pl.col("n").sum()
    scored = counted.with_columns(score=pl.col("n") * (inside / anywhere).log())
    ranked = scored.sort("group", "score", "item", descending=[False, True, False])
    best = ranked.group_by("group", maintain_order=True).agg(pl.col("item").head(NAMES))
    return {group: found for group, found in best.iter_rows()}
