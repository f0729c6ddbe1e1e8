"""Build the report: a folder of static files made from the tables of the other stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.report.chunks import ChunkWriter, write_script
from cluster.report.config import ReportConfig
from cluster.report.figures import figure_data
from cluster.report.headline import findings, headline, name_cluster
from cluster.report.inputs import Inputs, Vocabulary, open_inputs, read_sources, read_vocabulary
from cluster.report.members import count_background
from cluster.report.overview import (
    describe_accuracy,
    describe_clusters,
    describe_components,
    describe_leakage,
    describe_run,
    describe_support,
)
from cluster.report.records import LABEL, ClusterRecord, Tables, cluster_records, read_clusters
from cluster.report.site import write_site

# Clusters that the overview proposes to look at first, and that the headline names.
STARTERS = 10
NAMED = 3


def build(inputs: Mapping[str, Path], folder: Path, config: ReportConfig) -> dict[str, Any]:
    """Write index.html, assets/ and data/ into `folder`, and return the facts of the report with its headline.

    `inputs` maps stage names to their published folders: corpus, upsampled and clusters must be there; chi, aux and
    leakage may be missing, and the report then says that they were not measured.
    """
    run = open_inputs(inputs)
    vocabulary = read_vocabulary(run)
    tables = _open_tables(run, vocabulary, config)
    write_site(folder)
    directory = {"vocabulary": _write_vocabulary(folder, vocabulary, config)}
    starters = _write_clusters(folder, tables, config, directory)
    write_script(folder, "figures", figure_data(run, tables.clusters, config.figure_points), config.chunk_bytes)
    overview = _overview(run, tables, config)
    leakage = describe_leakage(run)
    named = [(row[0], _name(row, vocabulary), row[1]) for row in starters[:NAMED]]
    overview |= {
        "leakage": {"status": leakage.status, "sentence": leakage.sentence},
        "findings": findings(overview, leakage),
        "starters": starters,
        "directory": directory,
    }
    write_script(folder, "overview", overview, config.chunk_bytes)
    return _facts(overview, headline(overview["findings"], named))


def _open_tables(run: Inputs, vocabulary: Vocabulary, config: ReportConfig) -> Tables:
    sources = read_sources(run)
    tokens = run.array("corpus", "tokens")
    components = describe_components(run)
    return Tables(
        inputs=run,
        tokens=tokens,
        labels=run.array("clusters", "labels"),
        sources=sources,
        background=count_background(run, tokens, sources, vocabulary.size, config.block_rows),
        clusters=read_clusters(run, config.support_level),
        components=[] if components is None else components["names"],
    )


def _overview(run: Inputs, tables: Tables, config: ReportConfig) -> dict[str, Any]:
    return {
        "run": describe_run(run),
        "components": describe_components(run),
        "clusters": describe_clusters(run, tables.clusters),
        "accuracy": describe_accuracy(run),
        "support": describe_support(tables.clusters, config.support_level),
        "searchable": config.searchable,
    }


def _write_vocabulary(folder: Path, vocabulary: Vocabulary, config: ReportConfig) -> list[int]:
    writer = ChunkWriter(folder, "vocabulary", config.chunk_bytes)
    for token, text in vocabulary.table.iter_rows():
        writer.add(token, [token, text])
    return writer.close()


def _write_clusters(
    folder: Path, tables: Tables, config: ReportConfig, directory: dict[str, list[int]]
) -> list[list[Any]]:
    """Write the pages and the list, enter their files in `directory`, and return the list rows of the starters."""
    pages = ChunkWriter(folder, "clusters", config.chunk_bytes)
    rows = ChunkWriter(folder, "index", config.chunk_bytes)
    tightest: dict[int, list[Any]] = {}
    for record in cluster_records(tables, config):
        pages.add(record.cluster, record.page)
        rows.add(record.cluster, record.row)
        _keep_tightest(tightest, record)
    directory |= {"clusters": pages.close(), "index": rows.close()}
    return sorted(tightest.values(), key=lambda row: (row[2], row[0]))[:STARTERS]


def _keep_tightest(tightest: dict[int, list[Any]], record: ClusterRecord) -> None:
    """Keep the tightest cluster of every leading predicted token, so that the proposals differ from one another."""
    short = record.row[: LABEL.stop]
    leading = short[LABEL.start][0]
    if leading not in tightest or short[2] < tightest[leading][2]:
        tightest[leading] = short


def _name(row: list[Any], vocabulary: Vocabulary) -> str:
    targets, preceding, _, others = row[LABEL]
    return name_cluster(vocabulary.texts(targets), vocabulary.texts(preceding), others)


def _facts(overview: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """Small facts for the manifest and for whoever called."""
    return {
        "headline": lines,
        "clusters": overview["clusters"]["count"],
        "clustered_share": overview["clusters"]["clustered_share"],
        "leakage": overview["leakage"]["status"],
        "supported": overview["support"]["supported"],
        "tested": overview["support"]["tested"],
        "data_files": sum(len(first) for first in overview["directory"].values()) + 2,
    }
