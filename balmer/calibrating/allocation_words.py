"""What an allocation says: its lines on the terminal, and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars

from scale.calibrate.allocation import PUBLISHED, Agreement, Bought, Candidate, Plan, bent
from scale.chi.estimate import Estimator
from scale.chi.stage import MOST_TILT
from scale.costs import Work


@dataclass(frozen=True)
class Allocation:
    """What was tried, what is chosen of it, and what the published setting would have bought, if that can be said."""

    part: Estimator
    target: float
    work: Work
    candidates: Sequence[Candidate]
    chosen: Candidate | None
    published: Bought | None


def millions(cost: float) -> str:
    return f"{cost / 1e6:,.0f} M" if cost >= 1e8 else f"{cost / 1e6:.3g} M"


def ends(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}"


def seen(agreement: Agreement) -> str:
    """What the trial saw, as far as it can be told."""
    value, interval = f"{agreement.value:.2f}", ends(agreement.low, agreement.high)
    said = f"halves of {agreement.draws} draws correlate by {value} ({interval})"
    return said if agreement.told else f"{said}, which cannot be told from zero"


def planned(plan: Plan) -> str:
    least, settings = "at least " if plan.bound else "", plan.settings
    return (
        f"{least}{plan.draws_per_document:,} draws a document, {least}{settings.chains} x {settings.draws:,} in store, "
        f"{least}{millions(plan.cost)} token passes"
    )


def name_of(one: Candidate) -> str:
    return f"{one.estimator}, γ {one.settings.localization:g}"


def line(one: Candidate) -> str:
    """An estimator at one γ: what it takes, or why it is refused."""
    start = name_of(one)
    if one.refused:
        return f"{start}: refused: {one.refused}"
    assert one.plan is not None
    assert one.agreement is not None
    return f"{start}: {planned(one.plan)}; {seen(one.agreement)}"


def bought_line(bought: Bought | None) -> str:
    start = f"published setting, plain {PUBLISHED['chains']} x {PUBLISHED['draws']} draws"
    start += f" {PUBLISHED['steps_between_draws']} steps apart: "
    if bought is None:
        return f"{start}cannot be said without a trial of plain"
    value, low, high = bought.reliability
    said = f"at most {high:.2f}" if bought.bound else f"{value:.2f} ({ends(low, high)})"
    return f"{start}reliability {said}, {millions(bought.cost)} token passes"


def reason(allocation: Allocation) -> str:
    """Of the choice, or of there being none."""
    chosen = allocation.chosen
    if chosen is None or chosen.plan is None:
        return f"no estimator is chosen: {remedy(allocation)}"
    value, low, high = chosen.plan.reliability
    rivals = [one for one in allocation.candidates if one is not chosen and one.plan is not None and not one.refused]
    told = f"{chosen.estimator} is chosen, reliability {value:.2f} ({ends(low, high)}): "
    if not rivals:
        return told + "no other may be"
    return told + ", ".join(against(chosen, rival) for rival in rivals)


def against(chosen: Candidate, rival: Candidate) -> str:
    assert chosen.plan is not None
    assert rival.plan is not None
    ratio, name = rival.plan.cost / chosen.plan.cost, rival.estimator
    if rival.plan.bound:
        return f"{name} costs at least {ratio:.2g} times as much" if ratio > 1 else f"what {name} costs is not known"
    return f"{name} costs {ratio:.2g} times as much"


def remedy(allocation: Allocation) -> str:
    """What to try where nothing is chosen."""
    unknown = [one for one in allocation.candidates if one.plan is not None and not one.refused]
    tilted = [one for one in allocation.candidates if one.refused and one.tilts]
    found = []
    if unknown:
        draws = 4 * max(one.agreement.draws for one in unknown if one.agreement is not None)
        found.append(f"try longer trials, --calibrate.allocation_draws {draws}")
    if tilted:
        names = ", ".join(bent(tilted[0].tilts, MOST_TILT))
        found.append(f"leave {names} out of sgld.components, or try larger --calibrate.localization_factors")
    return "; ".join(found) or "none may be"


def lines(allocation: Allocation) -> list[str]:
    """What is to be reached, every estimator, the published setting, and the choice."""
    columns, tokens = len(allocation.work.shares), allocation.work.measured
    part, target = allocation.part, allocation.target
    first = (
        f"Allocation for aux.estimator {part}: median reliability {target:g} of {columns} columns, {tokens:,} tokens"
    )
    rest = [*(line(one) for one in allocation.candidates), bought_line(allocation.published), reason(allocation)]
    return [first, *(f"  {one}" for one in rest)]


def rows(allocation: Allocation) -> list[dict[str, Any]]:
    """One per estimator, γ and component."""
    found = []
    for one in allocation.candidates:
        plan = one.plan
        known: Mapping[str, Any] = {
            "estimator": one.estimator,
            "localization": one.settings.localization,
            "nbeta": one.settings.nbeta,
            "refused": one.refused or None,
            "draws_per_document": plan.draws_per_document if plan else None,
            "chains": plan.settings.chains if plan else None,
            "draws": plan.settings.draws if plan else None,
            "cost": plan.cost if plan else None,
            "bound": plan.bound if plan else None,
            "chosen": one is allocation.chosen,
        }
        for name in dict.fromkeys([*one.seen, *one.tilts]) or [None]:
            agreement = one.seen.get(name) if name else None
            found.append(
                {
                    "component": name,
                    "tilt": one.tilts.get(name) if name else None,
                    "half_draws": agreement.draws if agreement else None,
                    "correlation": agreement.value if agreement else None,
                    "correlation_low": agreement.low if agreement else None,
                    "correlation_high": agreement.high if agreement else None,
                    **known,
                }
            )
    return found


def allocation_table(allocation: Allocation) -> polars.DataFrame:
    words, numbers = ("component", "estimator", "refused"), ("draws_per_document", "chains", "draws", "half_draws")
    found = rows(allocation)
    kinds: dict[str, Any] = {name: polars.Float64 for name in found[0]}
    kinds |= dict.fromkeys(words, polars.String) | dict.fromkeys(numbers, polars.Int64)
    return polars.DataFrame(found, schema=kinds | dict.fromkeys(("bound", "chosen"), polars.Boolean))
