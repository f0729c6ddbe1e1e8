"""Build the report: a folder of static files made from the tables of the other stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.report.chunks import ChunkWriter, write_script
from cluster.report.comparison import compare
from cluster.report.config import ReportConfig
from cluster.report.contexts import write_contexts
from cluster.report.controls import CONTROLS, write_controls
from cluster.report.extras import read_stability, read_written
from cluster.report.figures import figure_data
from cluster.report.folds import count_folds
from cluster.report.headline import findings, headline, name_cluster, on_the_page
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
from cluster.report.places import find_places, levels, write_dust
from cluster.report.postings import Postings
from cluster.report.records import LABEL, ClusterRecord, Tables, cluster_records, read_clusters
from cluster.report.site import write_site
from cluster.report.walk_profile import open_graph

# Clusters that the overview proposes to look at first, and that the headline names.
STARTERS = 10
NAMED = 3

Directory = dict[str, list[int]]


def build(inputs: Mapping[str, Path], folder: Path, config: ReportConfig) -> dict[str, Any]:
    """Write index.html, assets/ and data/ into `folder`, and return the facts of the report with its headline.

    `inputs` maps stage names to their published folders: corpus, upsampled and clusters must be there; chi, aux and
    leakage may be missing, and the report then says that they were not measured. `controls` is there where
    controls were laid beside the run.
    """
    run = open_inputs(inputs)
    vocabulary = read_vocabulary(run)
    tables = _open_tables(run, vocabulary, config)
    write_site(folder)
    limit = config.chunk_bytes
    directory = {"vocabulary": _write_vocabulary(folder, vocabulary, tables, limit)}
    directory["contexts"] = write_contexts(folder, run, tables.tokens, tables.labels, tables.sources, limit)
    starters, targets = _write_clusters(folder, tables, config, directory)
    write_script(folder, "levels", levels(tables.places, tables.clusters, targets), limit)
    directory["dust"] = write_dust(folder, tables.places, limit)
    write_script(folder, "figures", figure_data(run, tables.clusters, config.figure_points), limit)
    overview = _overview(run, tables, config)
    overview["compared"] = compare(run, tables, config, folder, directory)
    leakage = describe_leakage(run)
    named = [(row[0], _name(row, vocabulary), row[1]) for row in starters[:NAMED]]
    found = findings(overview, leakage)
    overview |= {
        "leakage": {"status": leakage.status, "sentence": leakage.sentence, "of": list(leakage.of)},
        "findings": on_the_page(found, leakage),
        "starters": starters,
        "words": _words(starters, vocabulary),
        "directory": directory,
    }
    write_script(folder, "overview", overview, limit)
    return _facts(overview, headline(found, named)) | {CONTROLS: write_controls(folder, run, limit)}


def _open_tables(run: Inputs, vocabulary: Vocabulary, config: ReportConfig) -> Tables:
    sources = read_sources(run)
    tokens = run.array("corpus", "tokens")
    labels = run.array("clusters", "labels")
    components = describe_components(run)
    clusters = read_clusters(run, config.support_level)
    return Tables(
        inputs=run,
        tokens=tokens,
        labels=labels,
        sources=sources,
        background=count_background(run, tokens, sources, vocabulary.size, config.block_rows),
        folds=count_folds(run, tokens, vocabulary.size, config.block_rows),
        clusters=clusters,
        components=[] if components is None else components["names"],
        places=find_places(run, labels, clusters, config.seed, config.map_steps),
        graph=open_graph(run.folders["clusters"]),
        stability=read_stability(run),
        written=read_written(config.labels),
    )


def _overview(run: Inputs, tables: Tables, config: ReportConfig) -> dict[str, Any]:
    return {
        "run": describe_run(run),
        "components": describe_components(run),
        "clusters": describe_clusters(run, tables.clusters),
        "accuracy": describe_accuracy(run),
        "support": describe_support(tables.clusters, config.support_level),
        "stability": None if tables.stability is None else tables.stability.ways[0],
        "digest": config.digest,
        "before": config.before,
        "after": config.after,
    }


def _write_vocabulary(folder: Path, vocabulary: Vocabulary, tables: Tables, limit: int) -> list[int]:
    """Token, its text, how often it is predicted in the corpus."""
    writer = ChunkWriter(folder, "vocabulary", limit)
    for token, text in vocabulary.table.iter_rows():
        writer.add(token, [token, text, int(tables.background.targets[token])])
    return writer.close()


def _write_clusters(
    folder: Path, tables: Tables, config: ReportConfig, directory: Directory
) -> tuple[list[list[Any]], Postings]:
    """Write what is known of every cluster, enter the files in `directory`; the starters' list rows, and the search."""
    limit = config.chunk_bytes
    series = {name: ChunkWriter(folder, name, limit) for name in ("clusters", "index", "digest", "members")}
    targets, preceding = Postings(), Postings()
    tightest: dict[int, list[Any]] = {}
    for record in cluster_records(tables, config):
        series["clusters"].add(record.cluster, record.page)
        series["index"].add(record.cluster, record.row)
        series["digest"].add(record.cluster, [record.cluster, record.digest])
        for piece in record.members:
            series["members"].add(record.cluster, piece)
        targets.add(record.cluster, record.targets)
        preceding.add(record.cluster, record.preceding, config.searchable)
        _keep_tightest(tightest, record)
    directory |= {name: writer.close() for name, writer in series.items()}
    directory |= {"targets": targets.write(folder, "targets", limit)}
    directory |= {"preceding": preceding.write(folder, "preceding", limit)}
    return sorted(tightest.values(), key=lambda row: (row[2], row[0]))[:STARTERS], targets


def _keep_tightest(tightest: dict[int, list[Any]], record: ClusterRecord) -> None:
    """Keep the tightest cluster of every leading predicted token, so that the proposals differ from one another."""
    short = record.row[: LABEL.stop]
    leading = short[LABEL.start][0]
    if leading not in tightest or short[2] < tightest[leading][2]:
        tightest[leading] = short


def _words(starters: list[list[Any]], vocabulary: Vocabulary) -> list[list[Any]]:
    """Texts of the tokens that the first view names, so that it need not wait for the vocabulary."""
    tokens = sorted({token for row in starters for part in row[LABEL][:2] for token in part})
    return [list(pair) for pair in zip(tokens, vocabulary.texts(tokens), strict=True)]


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
        "data_files": sum(len(first) for first in overview["directory"].values()) + 4,
    }
