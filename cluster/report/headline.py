"""What was found, in a few lines of plain text for the terminal and the top of the report."""

from typing import Any

from cluster.report.numbers import Number
from cluster.report.verdict import Verdict

_GLYPHS = {" ": "·", "\n": "⏎", "\t": "⇥"}


def visible(text: str) -> str:
    """Text on one line, with white space shown and whatever a terminal could act on written as its code point."""
    return "".join(_GLYPHS.get(c, c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text)


def name_cluster(targets: list[str], preceding: list[str], others: int) -> str:
    """A cluster's label in words, every token between backticks."""
    quoted = [" or ".join(f"`{visible(text)}`" for text in texts) for texts in (targets, preceding) if texts]
    quoted[0] += f" or {_counted(others, 'other')}" if others else ""
    return " after ".join(quoted)


def findings(overview: dict[str, Any], leakage: Verdict) -> list[list[str]]:
    """Pairs of topic and sentence: what was found and how far to believe it."""
    return [
        ["Clusters", _found(overview["clusters"], overview["run"]["clustered_rows"])],
        ["Accuracy", _accuracy(overview["accuracy"])],
        ["Leakage", leakage.sentence],
        ["Support", _support(overview["support"])],
        *_chains(overview["components"]),
        *_duplicates(overview["components"]),
    ]


def on_the_page(found: list[list[str]], leakage: Verdict) -> list[list[str]]:
    """With what leakage of the further inputs there is, after that of the first."""
    further = [[f"Leakage of {name}", sentence] for name, sentence in leakage.further.items()]
    after = 1 + next(index for index, (topic, _) in enumerate(found) if topic == "Leakage")
    return [*found[:after], *further, *found[after:]]


def headline(found: list[list[str]], examples: list[tuple[int, str, int]]) -> list[str]:
    """The sentences, with a line of examples after the first. `examples`: cluster, label and size of a few clusters."""
    first, *rest = [sentence for _, sentence in found]
    return [first, *_examples(examples), *rest]


def _found(clusters: dict[str, Any], rows: int) -> str:
    expected = clusters["expected_false"]
    null = "how many of them chance alone would give was not measured"
    if expected is not None:
        null = f"structureless data of the same size would give {_about(expected)}"
    share = "an unknown share" if clusters["clustered_share"] is None else f"{100 * clusters['clustered_share']:.1f}%"
    return f"{_counted(clusters['count'], 'cluster')} found, holding {share} of {rows:,} tokens; {null}."


def _examples(examples: list[tuple[int, str, int]]) -> list[str]:
    named = "; ".join(f"{label} (cluster {cluster}, {size:,} tokens)" for cluster, label, size in examples)
    return [f"Tight clusters include {named}."] if named else []


def _accuracy(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None or accuracy["pearson"] is None:
        return "The auxiliary model's accuracy was not measured."
    components = _counted(accuracy["pcs"], "PC")
    reach = f"The auxiliary model reaches a mean Pearson of {accuracy['pearson']:.3f} over {components}"
    ceiling = "with no noise ceiling measured"
    if accuracy["of_ceiling"] is not None:
        ceiling = f"{100 * accuracy['of_ceiling']:.0f}% of the noise ceiling ({accuracy['ceiling']:.3f})"
    ridge = "" if accuracy["ridge"] is None else f"; ridge regression reaches {accuracy['ridge']:.3f}"
    return f"{reach}, {ceiling}{ridge}."


def _support(support: dict[str, Any]) -> str:
    if not support["tested"]:
        return "No cluster was tested against held-out ground truth."
    left = f"; {support['untested']:,} could not be tested" if support["untested"] else ""
    return (
        f"Held-out ground truth supports {support['supported']:,} of the {_counted(support['tested'], 'cluster')} that "
        f"could be tested (corrected p < {support['level']:g}){left}."
    )


def _chains(components: dict[str, Any] | None) -> list[list[str]]:
    if components is None or not components["excluded_chains"]:
        return []
    return [["Chains", f"{_counted(components['excluded_chains'], 'chain')} excluded from the ground truth."]]


def _duplicates(components: dict[str, Any] | None) -> list[list[str]]:
    if components is None or not components["duplicates"]:
        return []
    tokens = _counted(components["duplicates"], "measured token")
    return [["Duplicates", f"{tokens} with the very vector of another: the same text, measured twice."]]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


#: Fewer expected false clusters than this are not told apart: the calibration cannot.
_FEWEST = 0.001


def _about(number: float) -> str:
    return f"fewer than {_FEWEST:g}" if number < _FEWEST else f"about {_short(number)}"


def _short(number: Number) -> str:
    return f"{number:.2g}" if isinstance(number, float) and abs(number) < 10 else f"{number:,.0f}"
