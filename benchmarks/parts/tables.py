"""The record of `benchmarks.parts` as a page of tables, to be read in a terminal or pasted into docs/estimators.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.parts.bases import EXPLAINED
from benchmarks.parts.inputs import NAMES
from benchmarks.parts.neighbours import RARE

Record = dict[str, Any]
Rows = Sequence[Sequence[str]]
UNTOLD = "-"


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def interval(estimate: dict[str, float] | None) -> str:
    if estimate is None:
        return UNTOLD
    low, high = (f"{100 * estimate[end]:.1f}" for end in ("low", "high"))
    return f"{percent(estimate['value'])} ({low} to {high})"


def number(value: float | None, form: str = ".2f") -> str:
    return UNTOLD if value is None else format(value, form)


def of_pair(pairs: Sequence[Record], one: str, two: str) -> Any:
    return next(pair["value"] for pair in pairs if (pair["first"], pair["second"]) == (one, two))


def first_table(record: Record) -> Rows:
    """Each part by itself."""
    parts, targets = record["parts"], record["neighbours"]["targets"]
    found, k = record["clusters"], record["run"]["k"]
    leading = record["subspaces"]["leading"]

    def leak(name: str, key: str) -> str:
        values = [layer[name][key] for layer in record["leakage"] if layer[name][key] is not None]
        return number(max(values, default=None), ".3f")

    def same(name: str, group: str, key: str) -> Any:
        one = targets[name][group]
        return None if one is None else one[key]

    def chance(group: str) -> str:
        known = [value for name in NAMES if (value := same(name, group, "permuted")) is not None]
        return percent(max(known), 2) if known else UNTOLD

    def halves(name: str) -> str:
        one = found["parts"][name]
        counts, shares = (" and ".join(texts) for texts in (map(str, one["clusters"]), map(percent, one["clustered"])))
        return f"{counts}; {shares}"

    def again(name: str) -> str:
        one = of_pair(found["pairs"], name, name)["across"]
        return f"{number(one['rand'])}; {number(one['jaccard'])}"

    rows = {
        "median reliability of columns": lambda n: number(parts[n]["reliability"]),
        f"PCs for {percent(EXPLAINED, 0)} of the variance": lambda n: str(parts[n]["pcs"]),
        f"halves' correlation, mean of PCs 1 to {leading}": lambda n: number(
            sum(parts[n]["leading"][:leading]) / len(parts[n]["leading"][:leading])
        ),
        f"{k} nearest across halves: same target token (chance {chance('all')})": lambda n: interval(
            same(n, "all", "across")
        ),
        f"the same, tokens rarer than {percent(RARE)} (chance {chance('rare')})": lambda n: interval(
            same(n, "rare", "across")
        ),
        f"the same two, noise added until PCs correlate by {number(record['level'])} in all": lambda n: "; ".join(
            interval(None if one is None else one["across"]) for one in record["levelled"][n].values()
        ),
        "the same two, within one half": lambda n: (
            f"{interval(same(n, 'all', 'within'))}; {interval(same(n, 'rare', 'within'))}"
        ),
        "highest CKA with a layer, debiased (its noise taken off)": lambda n: (
            f"{leak(n, 'debiased')} ({leak(n, 'corrected')})"
        ),
        "clusters in each half; tokens in them": halves,
        f"clusters again in the other half: Rand; Jaccard (chance {number(found['chance']['jaccard'])})": again,
    }
    return [["", *NAMES], *([label, *map(show, NAMES)] for label, show in rows.items())]


def second_table(record: Record) -> Rows:
    """Two parts beside each other, and each beside itself."""
    spaces, near, found = record["subspaces"], record["neighbours"], record["clusters"]
    head = [
        "",
        f"variance of the first in {spaces['leading']} PCs of the second; the reverse",
        "neighbours across halves: Jaccard",
        "within one",
        "clusters across halves: Rand; Jaccard",
        "within one",
    ]

    def agreement(one: Record) -> str:
        return f"{number(one['rand'])}; {number(one['jaccard'])}"

    def row(one: str, two: str) -> list[str]:
        shares = [of_pair(spaces["pairs"], *pair) for pair in ((one, two), (two, one))]
        lists, sets = of_pair(near["overlaps"], one, two), of_pair(found["pairs"], one, two)
        itself = one == two
        return [
            f"{one}, itself" if itself else f"{one}, {two}",
            "; ".join(map(number, shares[:1] if itself else shares)),
            number(lists["across"], ".4f"),
            UNTOLD if itself else number(lists["within"], ".4f"),
            agreement(sets["across"]),
            UNTOLD if itself else agreement(sets["within"]),
        ]

    pairs = [(name, name) for name in NAMES] + [(a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]]
    last = ["chance", number(spaces["chance"]), number(near["chance"], ".4f"), "", agreement(found["chance"]), ""]
    return [head, *(row(*pair) for pair in pairs), last]


def third_table(record: Record) -> Rows:
    """Known classes: how many times chance, and in brackets with noise added as in the first table."""
    head = ["class", "share of tokens", *NAMES, "permuted"]
    rows = []
    for one in record["classes"]:
        lifts = [(one["lift"][name], one["levelled"][name]) for name in NAMES]
        wrong = [one["permuted"][name]["value"] for name in NAMES if one["permuted"][name] is not None]
        shown = [UNTOLD if own is None else f"{own['value']:.1f} ({noisy['value']:.1f})" for own, noisy in lifts]
        control = f"{min(wrong):.1f} to {max(wrong):.1f}" if wrong else UNTOLD
        rows.append([one["class"], percent(one["share"]), *shown, control])
    return [head, *rows]


def fourth_table(record: Record) -> Rows:
    """Leakage by layer."""
    layers = record["leakage"]

    def show(one: Record) -> str:
        return f"{one['debiased']:.3f} ({number(one['corrected'], '.3f')})"

    wrong = [max((layer[name]["permuted"] for name in NAMES), key=abs) for layer in layers]
    rows = [
        [str(layer["layer"]), *(show(layer[name]) for name in NAMES), f"{other:.4f}"]
        for layer, other in zip(layers, wrong, strict=True)
    ]
    return [["layer", *NAMES, "permuted"], *rows]


def markdown(rows: Rows) -> str:
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def aligned(rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def run_line(record: Record) -> str:
    run = record["run"]
    return (
        f"{run['model']} on {run['corpus']}: {run['sgld.estimator']}, γ {run['sgld.localization']:g}, "
        f"nβ {run['sgld.nbeta']:g}, {run['probe.draws_per_document']} draws a token; {run['tokens']:,} of "
        f"{run['of_tokens']:,} measured tokens of {run['documents']} documents, {run['components']} components; "
        f"{run['k']} neighbours of {run['queries']:,} tokens by {run['metric']} distance; "
        f"CKA over {record['leakage'][0]['tokens']:,} tokens"
    )


def page(record: Record, as_markdown: bool) -> str:
    form = markdown if as_markdown else aligned
    tables = (first_table(record), second_table(record), third_table(record), fourth_table(record))
    return "\n\n".join([run_line(record), *map(form, tables)])
