"""Which of the tried settings to use, and why: from judgements to numbers and sentences, without a model.

First ε alone, from the smallest up, until a step is too large; then nβ and γ around the run file's at that ε, with ε·γ
kept. Of the settings at which every component passes, the cheapest way to a reliable χ.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scale.calibrate.criteria import CRITERIA, Judgement
from scale.config import CalibrateConfig, SGLDConfig

#: What a smaller step cannot cure is not made better by a larger one.
STEP_TOO_LARGE = ("stays", "unbiased")
#: Keys of the section `sgld` that are recommended.
RECOMMENDED = ("step_size", "nbeta", "localization", "burn_in", "steps_between_draws")
#: The other criteria are worse the higher their value.
WORSE_WHEN_LOW = ("rises", "signal")
#: A burn-in of this many autocorrelation times leaves exp(-6) of where the chain began.
BURN_IN_TIMES = 3

FAILURES = {
    "stays": "a chain of {component} diverges",
    "rises": "a chain of {component} goes below the trained loss (by {value:.2g} nats)",
    "flattens": "{component} still drifts by {value:.0%} of its rise (limit {limit:.0%})",
    "agrees": "the chains of {component} disagree (R-hat {value:.2f}, limit {limit:g})",
    "smooth": "{component} jumps by {value:.0f} times its typical step (limit {limit:g})",
    "signal": "the rise of {component} is {value:.1f} standard errors (at least {limit:g})",
    "local": "{component} loses {value:.0%} of what the model knows (limit {limit:.0%})",
    "unbiased": "the step inflates the variance of {component} by {value:.0%} (limit {limit:.0%})",
}
REMEDIES = {
    "stays": "try smaller steps: --calibrate.step_factors [0.001,0.01,0.1]",
    "rises": "the chains train the model: try a larger sgld.localization",
    "flattens": "try longer chains: --calibrate.steps {steps}",
    "agrees": "try longer chains: --calibrate.steps {steps}",
    "smooth": "try smaller steps: --calibrate.step_factors [0.001,0.01,0.1]",
    "signal": "try more and longer chains: --calibrate.chains {chains} --calibrate.steps {steps}",
    "local": "try a tighter posterior: --calibrate.localization_factors [3,10,30]",
    "unbiased": "try smaller steps: --calibrate.step_factors [0.001,0.01,0.1]",
}


Sweep = Literal["step", "grid"]


@dataclass(frozen=True)
class Outcome:
    """One setting of the sampler with the judgement of every component; the last is the full model's."""

    sweep: Sweep
    settings: SGLDConfig
    judgements: Sequence[Judgement]

    @property
    def passes(self) -> bool:
        return not any(judgement.failed for judgement in self.judgements)

    @property
    def failed(self) -> Counter[str]:
        """How many components fail each criterion."""
        return Counter(name for judgement in self.judgements for name in judgement.failed)

    @property
    def cost(self) -> float:
        return sum(judgement.cost for judgement in self.judgements)

    def median(self, figure: str) -> float:
        """Over the components that have this figure; NaN if none has."""
        values = [judgement.figures[figure] for judgement in self.judgements if figure in judgement.figures]
        finite = [value for value in values if math.isfinite(value)]
        return float(np.median(finite)) if finite else float("nan")

    def values(self, criterion: str) -> list[float]:
        found = [judgement.verdicts[criterion].value for judgement in self.judgements]
        return [value for value in found if not math.isnan(value)]

    def largest(self, criterion: str) -> float:
        return max(self.values(criterion), key=abs, default=float("nan"))

    def smallest(self, criterion: str) -> float:
        return min(self.values(criterion), default=float("nan"))

    def cost_to(self, reliability: float) -> float:
        """Forward passes of a token for a χ this reliable: the odds r / (1 - r) grow with cost (Spearman and Brown)."""
        reached = self.median("reliability")
        if not reached > 0:
            return float("inf")
        return self.cost * reliability / (1 - reliability) * (1 - reached) / reached

    def worst(self, criterion: str) -> Judgement:
        """The component furthest beyond the limit."""
        failing = [judgement for judgement in self.judgements if judgement.verdicts[criterion].passed is False]
        return max(failing, key=lambda judgement: badness(criterion, judgement.verdicts[criterion].value))

    def extreme(self, criterion: str) -> float:
        """The value of the component that comes closest to failing, or fails furthest."""
        return self.smallest(criterion) if criterion in WORSE_WHEN_LOW else self.largest(criterion)

    def failure(self) -> str:
        """Of the criteria that the most components fail, what the worst of them does."""
        criterion = max(CRITERIA, key=lambda name: self.failed[name])
        judgement = self.worst(criterion)
        verdict = judgement.verdicts[criterion]
        text = FAILURES[criterion].format(component=judgement.component, value=verdict.value, limit=verdict.limit)
        return text.replace("by inf%", "without bound")


def badness(criterion: str, value: float) -> float:
    """The higher the worse; what cannot be measured (R-hat of chains that never move) is worst."""
    if math.isnan(value):
        return math.inf
    return -value if criterion in WORSE_WHEN_LOW else abs(value)


@dataclass(frozen=True)
class Recommendation:
    """Values for the section ``sgld`` of the run file; which outcome they come from, and why, a line each."""

    values: Mapping[str, float | int]
    chosen: Outcome
    reasons: Sequence[str]


def three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def around(value: float, factors: Sequence[float]) -> list[float]:
    return sorted({three_digits(value * factor) for factor in factors})


def step_sweep(settings: SGLDConfig, config: CalibrateConfig) -> list[SGLDConfig]:
    return [replace(settings, step_size=step) for step in around(settings.step_size, config.step_factors)]


def is_too_large(outcome: Outcome) -> bool:
    return any(outcome.failed[name] for name in STEP_TOO_LARGE)


def best_step(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The largest step that passes; if none does the one with the fewest failures, if all diverge none."""
    passing = [outcome for outcome in outcomes if outcome.passes]
    if passing:
        return max(passing, key=lambda outcome: outcome.settings.step_size)
    return min((o for o in outcomes if not o.failed["stays"]), key=distance, default=None)


def distance(outcome: Outcome) -> tuple[bool, int, float]:
    """From passing: other γ and nβ can cure much, but not a step that is too large, for ε·γ is kept."""
    return is_too_large(outcome), outcome.failed.total(), -outcome.settings.step_size


def grid(start: SGLDConfig, config: CalibrateConfig) -> list[SGLDConfig]:
    """nβ and γ around ``start``, which is left out; ε·γ is kept, and with it the bias and the steps to settle."""
    found = []
    for gamma in around(start.localization, config.localization_factors):
        step = three_digits(start.step_size * start.localization / gamma) if gamma > 0 else start.step_size
        found += [
            replace(start, step_size=step, nbeta=nbeta, localization=gamma)
            for nbeta in around(start.nbeta, config.nbeta_factors)
        ]
    return [settings for settings in found if settings != start]


def candidates(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """What may be recommended: the best step, and the grid around it, where everything passes."""
    start = best_step([outcome for outcome in outcomes if outcome.sweep == "step"])
    return [o for o in outcomes if o.passes and (o is start or o.sweep == "grid")]


def cheapest(found: Sequence[Outcome], settings: SGLDConfig, config: CalibrateConfig) -> tuple[Outcome, str]:
    """The run file's nβ and γ unless others are clearly cheaper, and the reason."""
    target = config.target_reliability
    best = min(found, key=lambda o: (o.cost_to(target), o.settings.localization, o.settings.nbeta))
    own = (settings.nbeta, settings.localization)
    kept = next((o for o in found if (o.settings.nbeta, o.settings.localization) == own), None)
    if kept is None:
        return best, f"{price(best, target)}; the run file's own nβ and γ do not pass"
    if best.cost_to(target) < (1 - config.tie) * kept.cost_to(target):
        ratio = kept.cost_to(target) / best.cost_to(target)
        return best, f"{price(best, target)}, {ratio:.1f} times fewer than at the run file's"
    return kept, f"kept; {price(kept, target)}, and none that passes is cheaper by {config.tie:.0%}"


def price(outcome: Outcome, target: float) -> str:
    return f"χ of reliability {target:g} takes {in_millions(outcome.cost_to(target))} token passes"


def in_millions(cost: float) -> str:
    return f"{cost / 1e6:.2f} M" if math.isfinite(cost) else "any number of"


def steps_between(time: float, worth: float) -> int:
    """Fewest steps s at which draws of a chain with this autocorrelation time are each worth so much of one.

    With correlation ρ^s between draws that is (1 - ρ^s) / (1 + ρ^s), where (1 + ρ) / (1 - ρ) is the time.
    """
    correlation = (time - 1) / (time + 1)
    if correlation <= 0:
        return 1
    return max(1, math.ceil(math.log((1 - worth) / (1 + worth)) / math.log(correlation)))


def worth_of(time: float, steps: int) -> float:
    """Of a draw this many steps after the last, in independent ones."""
    correlation = max(0.0, (time - 1) / (time + 1)) ** steps
    return (1 - correlation) / (1 + correlation)


def slowest_time(outcome: Outcome) -> float:
    """Steps that make one independent sample of the slowest weights; of L, whose times are noisy, the median."""
    weights = max(judgement.figures["weights_time"] for judgement in outcome.judgements)
    return float(np.nanmax([weights, outcome.median("loss_time")]))


def typical_time(outcome: Outcome) -> float:
    return float(np.nanmax([outcome.median("weights_time"), outcome.median("loss_time")]))


def hold(outcome: Outcome) -> str:
    """How much of what pulls the weights back is the loss, and not the localisation."""
    total = outcome.median("stiffness")
    share = 1 - outcome.settings.localization / total if total > 0 else 0.0
    return f"the loss is {share:.2%} of what holds weights"


def reason_for_step(outcomes: Sequence[Outcome], chosen: Outcome) -> str:
    steps = [outcome for outcome in outcomes if outcome.sweep == "step"]
    start = best_step(steps)
    assert start is not None
    if not start.passes:
        return f"with ε·γ as at {start.settings.step_size:g}, which came closest while γ was the run file's"
    step, bias = start.settings.step_size, f"{start.largest('unbiased'):.0%}"
    kept = step == chosen.settings.step_size
    first = "the largest" if kept else f"with ε·γ as at {step:g}, the largest"
    larger = [outcome for outcome in steps if outcome.settings.step_size > step]
    end = f"at {larger[0].settings.step_size:g} {larger[0].failure()}" if larger else "no larger one was tried"
    return f"{first} at which all pass, its bias {bias}; {end}"


def recommend(outcomes: Sequence[Outcome], settings: SGLDConfig, config: CalibrateConfig) -> Recommendation | None:
    """What to use, or None if nothing passes everywhere."""
    found = candidates(outcomes)
    if not found:
        return None
    chosen, why = cheapest(found, settings, config)
    slowest, typical = slowest_time(chosen), typical_time(chosen)
    values: dict[str, float | int] = {
        "step_size": chosen.settings.step_size,
        "nbeta": chosen.settings.nbeta,
        "localization": chosen.settings.localization,
        "burn_in": math.ceil(BURN_IN_TIMES * slowest),
        "steps_between_draws": steps_between(typical, config.draw_worth),
    }
    reasons = [
        f"ε {values['step_size']:g}: {reason_for_step(outcomes, chosen)}",
        f"nβ {values['nbeta']:g}, γ {values['localization']:g}: {why}; {hold(chosen)}",
        f"burn_in {values['burn_in']}: {BURN_IN_TIMES} times the slowest autocorrelation time, {slowest:.1f} steps",
        f"steps_between_draws {values['steps_between_draws']}: a draw is then worth {config.draw_worth:g} of an "
        f"independent one (typical autocorrelation time {typical:.1f} steps)",
    ]
    return Recommendation(values, chosen, reasons)


def refusal(outcomes: Sequence[Outcome], config: CalibrateConfig) -> list[str]:
    """Why nothing is recommended: the criterion that failed most, where it came closest, and what to try."""
    failed: Counter[str] = sum((outcome.failed for outcome in outcomes), Counter())
    criterion = max(CRITERIA, key=lambda name: failed[name])
    closest = min(outcomes, key=distance)
    best, of = closest.settings, sum(len(outcome.judgements) for outcome in outcomes)
    stayed = [outcome.settings.step_size for outcome in outcomes if not outcome.failed["stays"]]
    remedy = REMEDIES[criterion].format(steps=4 * config.steps, chains=2 * config.chains)
    return [
        f"No setting passes. Failed most: {criterion!r}, in {failed[criterion]} of {of} trials.",
        f"Closest: ε {best.step_size:g}, nβ {best.nbeta:g}, γ {best.localization:g}, where {closest.failure()}.",
        f"Largest ε at which no chain diverged: {max(stayed):g}." if stayed else "At every ε a chain diverged.",
        f"{remedy[0].upper()}{remedy[1:]}.",
    ]
