"""Tokens in context: the groups a cluster's page shows, and the few that the map and the search read."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.report.config import ReportConfig
from cluster.report.inputs import Sources
from cluster.report.numbers import rounded_list
from cluster.report.statistics import choose_shown
from cluster.report.windows import cut_windows

Group = dict[str, NDArray[Any]]


def shown(
    tokens: NDArray[np.int32],
    labels: NDArray[np.int32],
    sources: Sources,
    config: ReportConfig,
    cluster: int,
    group: Group,
) -> dict[str, Any]:
    """Examples of the three groups; equal source names of one cluster are stored once."""
    rng = np.random.default_rng([config.seed, cluster])
    chosen = choose_shown(len(group["row"]), config.nearest, config.random, config.edge, rng)
    order = np.concatenate([chosen.nearest, chosen.random, chosen.edge])
    picked = {name: column[order] for name, column in group.items()}
    names, picked["source"] = np.unique(picked["source"], return_inverse=True)
    examples = _examples(tokens, labels, config, picked)
    first, second = len(chosen.nearest), len(chosen.nearest) + len(chosen.random)
    return {
        "names": [sources.names[name] for name in names],
        "nearest": examples[:first],
        "random": examples[first:second],
        "edge": examples[second:],
    }


def _examples(
    tokens: NDArray[np.int32], labels: NDArray[np.int32], config: ReportConfig, picked: Group
) -> list[list[Any]]:
    """One list per example: distance, context, position, source, marked index, tokens, neighbours."""
    rows, contexts, positions = (picked[name].astype(np.int64) for name in ("row", "context", "position"))
    windows = cut_windows(tokens, labels, rows, contexts, positions, config.before, config.after)
    columns = (rounded_list(picked["distance"]), contexts.tolist(), positions.tolist(), picked["source"].tolist())
    return [
        [*numbers, window.marked, window.tokens, window.neighbours]
        for *numbers, window in zip(*columns, windows, strict=True)
    ]


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
        names, source = np.unique(part["source"], return_inverse=True)
        columns = [part[name].tolist() for name in ("context", "position", "token")]
        distance = rounded_list(part["distance"])
        found.append([cluster, start, *columns, distance, source.tolist(), [sources.names[n] for n in names]])
    return found
