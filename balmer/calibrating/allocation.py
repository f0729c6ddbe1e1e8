"""The second half of `balmer calibrate`: estimators tried at the recommended setting, and one of them chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars

from balmer.calibrating.allocation_words import Allocation, line
from balmer.calibrating.edit import Sections, Value
from balmer.config import RunConfig
from scale.calibrate.allocation import (
    FEWEST_DRAWS,
    PUBLISHED,
    Candidate,
    choose,
    judged,
    published,
)
from scale.calibrate.allocation_trial import needed, tried
from scale.calibrate.recommend import RECOMMENDED as SAMPLER
from scale.calibrate.recommend import Recommendation, three_digits, typical_time, worth_of
from scale.calibrate.trial import Bench
from scale.chi.stage import MEASURED, MOST_TILT
from scale.config import SGLDConfig
from scale.costs import METHODS, Work
from scale.draws.tangent import USUAL_THETA
from scale.model.components import select
from scale.progress import Progress
from scale.store import read_table

#: Steps of `tangent-gradient` that forget where it began.
TANGENT_BURN_IN = 16
#: Keys of each section that are recommended.
RECOMMENDED = {"sgld": (*SAMPLER, "estimator", "chains", "draws"), "probe": ("draws_per_document",)}


def work_of(config: RunConfig, bench: Bench, corpus: Path) -> Work:
    """Of the run as it stands: all of its components, and all measured contexts."""
    contexts, length = bench.pool.shape
    table = read_table(corpus / "contexts.parquet")
    measured = table.filter(polars.col("split").is_in(MEASURED)).height
    model = bench.language_model
    components = select(model.model, model.architecture, config.sgld.components)
    return Work(
        measured=measured * length,
        reference=min(config.sgld.reference_contexts, contexts) * length,
        minibatch=config.sgld.batch_contexts * length,
        shares=[model.share(component.start) for component in components],
    )


def with_estimator(settings: SGLDConfig, name: str, gamma: float) -> SGLDConfig:
    """At γ, with ε·γ kept, and a number of draws that goes with every estimator; how many there are is to be found."""
    step = settings.step_size
    if gamma != settings.localization:
        step = three_digits(step * settings.localization / gamma)
    changes: dict[str, Any] = {"estimator": name, "step_size": step, "localization": gamma, "draws": FEWEST_DRAWS}
    if name == "tangent-gradient":  # chains of its own
        changes |= {
            "step_size": three_digits(2 * USUAL_THETA / gamma),
            "burn_in": TANGENT_BURN_IN,
            "steps_between_draws": 1,
        }
    return replace(settings, **changes)


def gammas(settings: SGLDConfig, name: str, factors: Sequence[float]) -> list[float]:
    """The γ at hand, and for an estimator that needs a tight posterior the larger ones to be tried, upwards."""
    own = settings.localization
    larger = sorted(three_digits(own * factor) for factor in factors if factor > 1)
    return [own, *larger] if METHODS[name].gaussian else [own]


def objection(settings: SGLDConfig, name: str, sampler_is_set: bool) -> str:
    """Why an estimator is not even tried; empty if it is."""
    method = METHODS[name]
    if method.chain and not sampler_is_set:
        return "no setting of the sampler passes"
    if not method.chain and settings.localization == 0:
        return "sgld.localization is 0"
    if not method.chain and settings.sampler == "gaussian":
        return "is not recommended with sgld.sampler: gaussian, which is a control"
    return ""


def candidates(
    config: RunConfig, bench: Bench, found: Recommendation | None, work: Work, progress: Progress
) -> Iterator[Candidate]:
    """Every estimator, at one γ after the other until its posterior is the right one."""
    part, limits = config.aux.estimator, config.calibrate
    recommended: dict[str, Any] = dict(found.values) if found else {}
    base = replace(config.sgld, estimator="plain", **recommended)
    for name in METHODS:
        refused = objection(base, name, found is not None)
        if refused:
            yield Candidate(name, base, {}, {}, None, None, refused)
            continue
        for gamma in gammas(base, name, limits.localization_factors):
            settings = with_estimator(base, name, gamma)
            chains = limits.chains * len(needed(bench.components, part))
            with progress.task(f"{name}, γ {gamma:g}", chains) as task:
                one = tried(bench, settings, limits, config.probe, part, task)
            one = judged(one, MOST_TILT, limits, work)
            progress.say(f"  {line(one)}")
            yield one
            if not one.refused:
                break


def allocate(
    config: RunConfig, bench: Bench, found: Recommendation | None, corpus: Path, progress: Progress
) -> Allocation:
    work = work_of(config, bench, corpus)
    every = list(candidates(config, bench, found, work, progress))
    chosen = choose(every, config.sgld.estimator, config.calibrate.tie)
    bought = None
    plain = next(one for one in every if one.estimator == PUBLISHED["estimator"])
    if found is not None and plain.agreement is not None:
        worth = worth_of(typical_time(found.chosen), plain.settings.steps_between_draws)
        bought = published(plain.agreement, plain.settings, worth, work)
    return Allocation(config.aux.estimator, config.calibrate.target_reliability, work, every, chosen, bought)


def current_values(config: RunConfig) -> Sections:
    """What the run file says now of all that may be recommended."""
    return {
        section: {key: getattr(getattr(config, section), key) for key in keys} for section, keys in RECOMMENDED.items()
    }


def values_of(found: Recommendation | None, allocation: Allocation | None) -> Sections:
    """For the run file: the sampler's, and those of the allocation, whose γ counts and takes ε with it."""
    sgld: dict[str, Value] = dict(found.values) if found else {}
    chosen = allocation.chosen if allocation else None
    if chosen is None or chosen.plan is None:
        return {"sgld": sgld} if sgld else {}
    settings, plan = chosen.settings, chosen.plan
    if found:
        sgld["step_size"] = settings.step_size
    if settings.estimator == "tangent-gradient":
        sgld |= {key: getattr(settings, key) for key in ("step_size", "burn_in", "steps_between_draws")}
    sgld |= {
        "localization": settings.localization,
        "estimator": settings.estimator,
        "chains": plan.settings.chains,
        "draws": plan.settings.draws,
    }
    return {"sgld": sgld, "probe": {"draws_per_document": plan.draws_per_document}}
