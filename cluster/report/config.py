"""Settings of the report."""

from dataclasses import dataclass

from scale.errors import UserError

# Upper bound of the bytes one token of a shown context takes in a data file: its id, a neighbour's cluster, commas.
BYTES_PER_SHOWN_TOKEN = 24


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows and how large its files may be.

    Args:
        nearest: Members shown per cluster, nearest to the cluster's mean.
        random: Members shown per cluster, drawn at random from those not shown as nearest or edge.
        edge: Members shown per cluster, farthest from the cluster's mean.
        before: Tokens of context shown before the predicted token.
        after: Tokens of context shown after the predicted token.
        top: Rows in the tables of what a cluster's members share.
        digest: Contexts per cluster that the map and the search over contexts read.
        digest_before: Tokens of those contexts before the predicted token.
        digest_after: Tokens of those contexts after the predicted token.
        searchable: Distinct preceding tokens per cluster that the search can find, most frequent first.
        support_level: Corrected p-value below which a cluster counts as supported by held-out ground truth.
        figure_points: Points drawn per series of a figure; longer series are thinned evenly and say so.
        chunk_bytes: Largest size of one data file, at most 1000000.
        block_rows: Token rows held in memory at a time while building.
        map_steps: Steps in which the map is laid out; fewer are quicker and leave it less settled.
        seed: Seed of the random members shown, and of the map.
        labels: A table of written labels (cluster, text, by, detection), or nothing.
        compare: The folder of a finished run over the same contexts, to be shown beside this one, or nothing.
    """

    nearest: int = 12
    random: int = 24
    edge: int = 12
    before: int = 32
    after: int = 12
    top: int = 12
    digest: int = 4
    digest_before: int = 14
    digest_after: int = 5
    searchable: int = 64
    support_level: float = 0.05
    figure_points: int = 3000
    chunk_bytes: int = 1_000_000
    block_rows: int = 1_000_000
    map_steps: int = 500
    seed: int = 0
    labels: str = ""
    compare: str = ""

    def __post_init__(self) -> None:
        for key in ("nearest", "random", "edge", "before", "after", "seed", "digest_before", "digest_after"):
            _at_least(key, getattr(self, key), 0)
        for key in ("top", "searchable", "digest", "figure_points", "block_rows", "map_steps"):
            _at_least(key, getattr(self, key), 1)
        if not 0 < self.support_level < 1:
            raise UserError(f"report.support_level must lie between 0 and 1, got {self.support_level}")
        if not 10_000 <= self.chunk_bytes <= 1_000_000:
            raise UserError(f"report.chunk_bytes must lie between 10000 and 1000000, got {self.chunk_bytes}")
        self._check_one_cluster_fits()

    def _check_one_cluster_fits(self) -> None:
        shown = (self.nearest + self.random + self.edge) * (self.before + 1 + self.after)
        needed = shown * BYTES_PER_SHOWN_TOKEN
        if needed > self.chunk_bytes:
            raise UserError(
                f"report.chunk_bytes is {self.chunk_bytes} but one cluster may need {needed}: "
                "lower report.nearest, random, edge, before or after"
            )


def _at_least(key: str, value: int, lowest: int) -> None:
    if value < lowest:
        raise UserError(f"report.{key} must be at least {lowest}, got {value}")
