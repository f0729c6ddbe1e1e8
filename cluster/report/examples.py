"""Tokens in context: the groups a cluster's page shows, and the few that the map and the search read."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.report.config import ReportConfig
from cluster.report.inputs import Sources
from cluster.report.statistics import Shown, choose_shown
from cluster.report.windows import cut_windows

Group = dict[str, NDArray[Any]]
# What is read of a member that is shown.
COLUMNS = ("row", "context", "position", "source", "distance")
# Where an example holds its source.
SOURCE = 3
# Clusters whose contexts are cut out of the token table together.
TOGETHER = 200


def shown(
    tokens: NDArray[np.int32],
    labels: NDArray[np.int32],
    sources: Sources,
    config: ReportConfig,
    clusters: list[int],
    groups: list[Group],
) -> Iterator[dict[str, Any]]:
    """Examples of the three groups, cluster by cluster; equal source names of one cluster are stored once."""
    for start in range(0, len(clusters), TOGETHER):
        own = groups[start : start + TOGETHER]
        chosen = [_choose(cluster, group, config) for cluster, group in zip(clusters[start:], own, strict=False)]
        orders = [np.concatenate([one.nearest, one.random, one.edge]) for one in chosen]
        picked = {
            name: np.concatenate([group[name][order] for group, order in zip(own, orders, strict=True)])
            for name in COLUMNS
        }
        examples = _examples(tokens, labels, config, picked)
        for one in chosen:
            yield _named(one, examples, sources)


def _choose(cluster: int, group: Group, config: ReportConfig) -> Shown:
    size = len(group["row"])
    drawing = size > config.nearest + config.random + config.edge
    rng = np.random.default_rng([config.seed, cluster]) if drawing else None
    return choose_shown(size, config.nearest, config.random, config.edge, rng)


def _named(chosen: Shown, examples: Iterator[list[Any]], sources: Sources) -> dict[str, Any]:
    """The next examples by their groups, with sources by their place among the cluster's own."""
    found = {
        name: [next(examples) for _ in range(len(getattr(chosen, name)))] for name in ("nearest", "random", "edge")
    }
    own = sorted({example[SOURCE] for group in found.values() for example in group})
    place = {source: i for i, source in enumerate(own)}
    for group in found.values():
        for example in group:
            example[SOURCE] = place[example[SOURCE]]
    return {"names": [sources.names[source] for source in own], **found}


def _examples(
    tokens: NDArray[np.int32], labels: NDArray[np.int32], config: ReportConfig, picked: Group
) -> Iterator[list[Any]]:
    """One list per example: distance, context, position, source, marked index, tokens, neighbours."""
    rows, contexts, positions = (picked[name].astype(np.int64) for name in ("row", "context", "position"))
    windows = cut_windows(tokens, labels, rows, contexts, positions, config.before, config.after)
    columns = (picked["distance"].tolist(), contexts.tolist(), positions.tolist(), picked["source"].tolist())
    return (
        [*numbers, window.marked, window.tokens, window.neighbours]
        for *numbers, window in zip(*columns, windows, strict=True)
    )


def digest(page_shown: dict[str, Any], config: ReportConfig) -> list[list[int]]:
    """The nearest and the random examples in turn, cut short: marked index, then tokens."""
    pairs = zip(page_shown["nearest"], page_shown["random"], strict=False)
    mixed = [example for pair in pairs for example in pair] or page_shown["nearest"] + page_shown["random"]
    return [_short(example, config) for example in mixed[: config.digest]]


def _short(example: list[Any], config: ReportConfig) -> list[int]:
    marked, tokens = example[4], example[5]
    start = max(0, marked - config.digest_before)
    return [marked - start, *tokens[start : marked + config.digest_after + 1]]


# Members per record of the complete list: one record stays far below the size of a data file.
PIECE = 400


def pieces(cluster: int, group: Group, sources: Sources) -> list[list[Any]]:
    """All members in order of distance, as columns: context, position, token, distance, source; names of the sources.

    Each record begins with the cluster and the place of its first member.
    """
    found = []
    for start in range(0, len(group["row"]), PIECE):
        part = {name: column[start : start + PIECE] for name, column in group.items()}
        source = part["source"].tolist()
        names = sorted(set(source))
        place = {name: i for i, name in enumerate(names)}
        columns = [part[name].tolist() for name in ("context", "position", "token")]
        own = [place[one] for one in source]
        columns += [part["distance"].tolist(), own]
        found.append([cluster, start, *columns, [sources.names[name] for name in names]])
    return found
