"""What the run says of leakage, in the words that the stage `leakage` found for every kind of input.

Leakage: the auxiliary model reads activations, gradients and responses, so its prediction may resemble them more than
the susceptibilities it stands for do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MISSING = "Leakage was not measured in this run, so it cannot be ruled out."
#: The kind of input that the published metrics are about; the report's figures show it.
PUBLISHED = "activations"


@dataclass(frozen=True)
class Verdict:
    """`status` is "missing", "untested" (nothing could be told), "visible" (of some input) or "not visible".

    `sentence` is about activations where they are read; `further` has the others', by input. `of` names the inputs
    that leak.
    """

    status: str
    sentence: str
    further: Mapping[str, str] = field(default_factory=dict)
    of: Sequence[str] = ()


def leakage_verdict(found: Mapping[str, Mapping[str, str]] | None) -> Verdict:
    """``found``: status and sentence by kind of input, as the stage recorded them; None where it did not run."""
    if not found:
        return Verdict("missing", MISSING)
    statuses = [one["status"] for one in found.values()]
    status = next((known for known in ("visible", "not visible") if known in statuses), "untested")
    first = PUBLISHED if PUBLISHED in found else next(iter(found))
    further = {name: one["sentence"] for name, one in found.items() if name != first}
    leaking = [name for name, one in found.items() if one["status"] == "visible"]
    return Verdict(status, found[first]["sentence"], further, leaking)
