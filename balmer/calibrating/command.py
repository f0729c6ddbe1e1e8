"""`balmer calibrate`: the sampler's settings and the estimators tried on a few components, and what to use.

Reads the run's corpus, which is made if it is not there yet; writes ``calibration/`` in the run folder, which is no
stage: nothing depends on it and nothing makes it stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars
import torch

from balmer.calibrating.allocation import allocate, values_of
from balmer.calibrating.allocation_words import Allocation, allocation_table, lines
from balmer.calibrating.edit import Sections, number
from balmer.calibrating.page import page
from balmer.config import RunConfig
from balmer.folder import RunFolder
from balmer.preflight import skeleton
from balmer.runner import Runner
from scale.calibrate.criteria import Observed, judge
from scale.calibrate.recommend import (
    Outcome,
    Recommendation,
    Sweep,
    best_step,
    grid,
    is_too_large,
    recommend,
    refusal,
    step_sweep,
)
from scale.calibrate.trial import Bench, observe, representative, trial_settings
from scale.config import CalibrateConfig, SGLDConfig
from scale.corpus.stage import split_tokens
from scale.costs import METHODS
from scale.errors import UserError
from scale.model.architecture import Architecture, read_architecture
from scale.model.batches import Budget
from scale.model.components import FULL, Component, full, select
from scale.model.language_model import load_language_model
from scale.progress import Progress
from scale.store import write_bytes, write_table

FOLDER = "calibration"
#: A setting's outcome, and what the chains of every component showed.
Tried = tuple[Outcome, dict[str, Observed]]


def chosen_components(config: RunConfig, model: Any, architecture: Architecture) -> list[Component]:
    """Those that were asked for, or a few of every kind."""
    wanted = config.calibrate.components
    if not wanted:
        return representative(select(model, architecture, config.sgld.components))
    try:
        return select(model, architecture, wanted)
    except UserError as error:
        raise UserError(str(error).replace("sgld.components", "calibrate.components", 1)) from error


def check_components(config: RunConfig) -> None:
    """Before any work is done."""
    model = skeleton(config)
    chosen_components(config, model, read_architecture(model))


def make_bench(config: RunConfig, corpus: Path) -> Bench:
    language_model = load_language_model(config.model)
    chosen = chosen_components(config, language_model.model, language_model.architecture)
    components = [*chosen, full(language_model.model)]

    def tokens(split: str, contexts: int) -> torch.Tensor:
        return torch.from_numpy(split_tokens(corpus, split, contexts)).long().to(language_model.device)

    return Bench(
        language_model,
        components,
        tokens("truth", config.sgld.pool_contexts),
        tokens("heldout", config.calibrate.probe_contexts),
        Budget.of(language_model.device, config.model.batch_tokens),
    )


def trying(
    bench: Bench, base: SGLDConfig, config: CalibrateConfig, progress: Progress
) -> Callable[[Sweep, Sequence[SGLDConfig]], list[Tried]]:
    """A function that tries settings and judges them against the trained weights."""
    trained = bench.trained(base)

    def call(sweep: Sweep, settings: Sequence[SGLDConfig]) -> list[Tried]:
        chains = len(settings) * len(bench.components) * base.chains
        with progress.task(named(settings), chains) as task:
            observed = observe(bench, settings, task)
        return [
            (Outcome(sweep, s, [judge(n, o, seen[FULL], trained, s, config) for n, o in seen.items()]), seen)
            for s, seen in zip(settings, observed, strict=True)
        ]

    return call


def named(settings: Sequence[SGLDConfig]) -> str:
    if len(settings) == 1:
        return f"ε {settings[0].step_size:g}"
    return f"{len(settings)} settings of nβ and γ"


def sweep(bench: Bench, settings: SGLDConfig, config: CalibrateConfig, progress: Progress) -> Iterator[Tried]:
    """ε upwards until it is too large; then nβ and γ around the best, unless every chain diverged.

    A run whose estimator needs no chain keeps its nβ and γ: for it the sampler is only what others are measured by.
    """
    base = trial_settings(replace(settings, estimator="plain"), config)
    attempt = trying(bench, base, config, progress)
    outcomes: list[Outcome] = []
    for step in step_sweep(base, config):
        found = attempt("step", [step])
        outcomes.append(found[0][0])
        progress.say(f"  ε {step.step_size:g} {verdict(outcomes[-1], None)}")
        yield from found
        if is_too_large(outcomes[-1]):
            break
    start = best_step(outcomes)
    others = grid(start.settings, config) if start is not None and METHODS[settings.estimator].chain else []
    if others:
        yield from attempt("grid", others)


def rows(outcomes: Sequence[Outcome], chosen: Outcome | None, target: float) -> list[dict[str, Any]]:
    """One row per setting and component: every criterion with its limit, and the figures."""
    found = []
    for outcome in outcomes:
        settings = outcome.settings
        for judgement in outcome.judgements:
            row: dict[str, Any] = {
                "sweep": outcome.sweep,
                "step_size": settings.step_size,
                "nbeta": settings.nbeta,
                "localization": settings.localization,
                "component": judgement.component,
                "passes": not judgement.failed,
            }
            for name, verdict in judgement.verdicts.items():
                row |= {name: verdict.value, f"{name}_limit": verdict.limit, f"{name}_passed": verdict.passed}
            row |= {name: judgement.figures.get(name) for name in FIGURES}
            row |= {"cost": judgement.cost, "setting_cost_to_target": outcome.cost_to(target)}
            found.append(row | {"setting_passes": outcome.passes, "chosen": outcome is chosen})
    return found


FIGURES = (
    "rise",
    "gap",
    "reliability",
    "reliability_covariance",
    "loss_time",
    "weights_time",
    "draw_worth",
    "spread",
    "stiffness",
    "scale",
    "excess",
)


def table(outcomes: Sequence[Outcome], chosen: Outcome | None, target: float) -> polars.DataFrame:
    found = rows(outcomes, chosen, target)
    kinds: dict[str, Any] = {name: polars.Float64 for name in found[0]}
    kinds |= {name: polars.String for name in ("sweep", "component")}
    kinds |= {name: polars.Boolean for name in found[0] if name.endswith(("passes", "_passed"))}
    return polars.DataFrame(found, schema=kinds | {"chosen": polars.Boolean})


def heading(target: float) -> str:
    return (
        f"{'ε':>9} {'nβ':>6} {'γ':>6} {'rise':>7} {'bias':>6} {'R-hat':>6} {'signal':>6} {'time':>5} "
        f"{'χ':>5} {'cov':>5} {f'to {target:g}':>8}  verdict"
    )


def line(outcome: Outcome, chosen: Outcome | None, target: float) -> str:
    """One setting: medians over components, but the worst bias and R-hat."""
    s, m = outcome.settings, outcome.median
    return (
        f"{s.step_size:>9.3g} {s.nbeta:>6g} {s.localization:>6g} {m('rise'):>7.3f} {outcome.largest('unbiased'):>6.0%} "
        f"{outcome.largest('agrees'):>6.2f} {outcome.smallest('signal'):>6.1f} {m('weights_time'):>5.1f} "
        f"{m('reliability'):>5.2f} {m('reliability_covariance'):>5.2f} {outcome.cost_to(target) / 1e6:>7.2f}M  "
        f"{verdict(outcome, chosen)}"
    )


def verdict(outcome: Outcome, chosen: Outcome | None) -> str:
    """What fails and in how many components."""
    if outcome is chosen:
        return "recommended"
    failed = [f"{name} {count}/{len(outcome.judgements)}" for name, count in outcome.failed.items()]
    return f"fails {', '.join(failed)}" if failed else "passes"


def summary(
    outcomes: Sequence[Outcome], found: Recommendation | None, allocation: Allocation | None, config: CalibrateConfig
) -> list[str]:
    """The recommendation with its reasons, or why there is none; the allocation; and the lines to copy."""
    said = refusal(outcomes, config) if found is None else [recommended(found), *(f"  {one}" for one in found.reasons)]
    copied = [
        text
        for section, values in values_of(found, allocation).items()
        for text in (f"{section}:", *(f"  {key}: {number(value)}" for key, value in values.items()))
    ]
    return [*said, *(lines(allocation) if allocation else []), *copied]


def recommended(found: Recommendation) -> str:
    values = found.values
    return f"Recommended: ε {values['step_size']:g}, nβ {values['nbeta']:g}, γ {values['localization']:g}"


def report(
    outcomes: Sequence[Outcome], found: Recommendation | None, allocation: Allocation | None, config: CalibrateConfig
) -> list[str]:
    """A line for every setting, and the summary."""
    target, chosen = config.target_reliability, found.chosen if found else None
    settings = [line(outcome, chosen, target) for outcome in outcomes]
    return [heading(target), *settings, *summary(outcomes, found, allocation, config)]


def calibrate(config: RunConfig, progress: Progress) -> tuple[Sections, list[str]]:
    """Make the corpus if need be, try settings and estimators, write the folder; what to use, and what to say."""
    check_components(config)
    Runner(replace(config, engine="local"), progress).run(last="corpus")
    folder = RunFolder(Path(config.folder))
    with folder.lock(progress.say):
        corpus = folder.stage_path("corpus")
        bench = make_bench(config, corpus)
        names = ", ".join(component.name for component in bench.components)
        progress.say(f"calibrate: {names}; {config.calibrate.chains} chains of {config.calibrate.steps} steps each")
        plain = replace(config.sgld, estimator="plain")
        tried = list(sweep(bench, config.sgld, config.calibrate, progress))
        outcomes = [outcome for outcome, _ in tried]
        found = recommend(outcomes, plain, config.calibrate)
        allocation = None
        if found is not None or not METHODS[config.sgld.estimator].chain:
            allocation = allocate(config, bench, found, corpus, progress)
        write(folder.path / FOLDER, bench, tried, found, allocation, config.calibrate)
    return values_of(found, allocation), report(outcomes, found, allocation, config.calibrate)


def write(
    folder: Path,
    bench: Bench,
    tried: Sequence[Tried],
    found: Recommendation | None,
    allocation: Allocation | None,
    config: CalibrateConfig,
) -> None:
    outcomes, chosen = [outcome for outcome, _ in tried], found.chosen if found else None
    trained = bench.trained(outcomes[0].settings).loss
    text = "\n".join(summary(outcomes, found, allocation, config))
    write_table(folder / "calibration.parquet", table(outcomes, chosen, config.target_reliability))
    if allocation is not None:
        write_table(folder / "allocation.parquet", allocation_table(allocation))
    write_bytes(folder / "calibration.html", page(tried, trained, chosen, allocation, text, config).encode("utf-8"))
