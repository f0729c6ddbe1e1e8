"""How many draws, by which estimator: from the agreement of two measurements to a plan, without a model.

Measurements of n draws each that correlate by r over tokens have odds r / (1 - r) in proportion to n (Spearman and
Brown). So a trial with a few draws says how many are wanted, as far as its r can be told from zero; where it cannot,
the upper end of its interval gives a bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scale.chi.estimate import spearman_brown
from scale.config import CalibrateConfig, SGLDConfig
from scale.costs import METHODS, Work, run_cost
from scale.draws.mean_gradient import LEAST_COMMON

BOOTSTRAP = 1000
#: Ends of an interval of 95 %, and the same in standard deviations.
ENDS, WIDTH = (0.025, 0.975), 1.96
#: With two chains in each half, one that diverges still leaves two measurements.
FEWEST_CHAINS = 4
#: A half needs two draws for a covariance, a chain four for its R-hat.
FEWEST_DRAWS = 4
#: The setting of the literature; draws this far apart count as independent.
PUBLISHED = {"estimator": "plain", "chains": 4, "draws": 100, "steps_between_draws": 160}


@dataclass(frozen=True)
class Agreement:
    """The median over components of the correlation of two measurements of ``draws`` draws each, and its interval."""

    draws: int
    value: float
    low: float
    high: float

    @property
    def told(self) -> bool:
        """Whether it can be told from zero."""
        return self.low > 0

    def reliability(self, draws: float) -> tuple[float, float, float]:
        """Of a measurement of so many draws in all: value, low and high."""
        ends = np.array([self.value, self.low, self.high])
        value, low, high = spearman_brown(ends, draws / self.draws)
        return float(value), float(low), float(high)

    def needed(self, target: float) -> float:
        """Draws for a measurement this reliable; at least so many if the agreement cannot be told from zero."""
        seen = self.value if self.told else self.high
        return self.draws * target / (1 - target) * (1 - seen) / seen if seen < 1 else 0.0


def sums_of(halves: np.ndarray) -> np.ndarray:
    """Of ``halves`` (components, 2, contexts, tokens): count, Σa, Σb, Σa², Σb², Σab, (contexts, components, 6)."""
    centred = halves - halves.mean(axis=(2, 3), keepdims=True)
    a, b = centred[:, 0], centred[:, 1]
    sums = [np.full(a.shape[:2], a.shape[2], float), *(x.sum(axis=2) for x in (a, b, a * a, b * b, a * b))]
    return np.stack(sums, axis=-1).swapaxes(0, 1)


def correlations(sums: np.ndarray) -> np.ndarray:
    """From sums (..., 6); 0 where one of both does not vary."""
    n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    scale = np.sqrt(np.maximum(aa - a * a / n, 0) * np.maximum(bb - b * b / n, 0))
    return np.divide(ab - a * b / n, scale, out=np.zeros(scale.shape), where=scale > 0)


def by_chance(value: float, tokens: int) -> tuple[float, float]:
    """The interval that this correlation would have if tokens were independent (Fisher's z)."""
    if tokens < 5 or abs(value) >= 1:
        return (-1.0, 1.0) if tokens < 5 else (value, value)
    middle, reach = math.atanh(value), WIDTH / math.sqrt(tokens - 3)
    return math.tanh(middle - reach), math.tanh(middle + reach)


def agreement_of(halves: np.ndarray, draws: int) -> Agreement:
    """Of ``halves`` (components, 2, contexts, tokens), two measurements of ``draws`` draws each.

    Contexts and components are drawn again, both: tokens of a context share their text, and those of a component may
    share the error of its draws. The interval is never narrower than that of one component with independent tokens.
    """
    sums, generator = sums_of(np.asarray(halves, np.float64)), np.random.default_rng(0)
    contexts, components = sums.shape[:2]
    value = float(np.median(correlations(sums.sum(axis=0))))
    rows = generator.integers(contexts, size=(BOOTSTRAP, contexts))
    columns = generator.integers(components, size=(BOOTSTRAP, components))
    again = [np.median(correlations(sums[row].sum(axis=0))[column]) for row, column in zip(rows, columns, strict=True)]
    low, high = np.quantile(again, ENDS)
    narrowest = by_chance(value, halves.shape[2] * halves.shape[3])
    return Agreement(draws, value, min(float(low), narrowest[0]), max(float(high), narrowest[1]))


@dataclass(frozen=True)
class Plan:
    """A run that reaches the target; at least that many draws and passes if it is a ``bound``.

    ``reliability`` is the median column's, with both ends of its interval.
    """

    settings: SGLDConfig
    draws_per_document: int
    cost: float
    reliability: tuple[float, float, float]
    bound: bool


def up_to_multiple(value: float, multiple: int) -> int:
    """The next one, but for what rounding has added."""
    return multiple * math.ceil(value / multiple - 1e-9)


def plan_with(draws: float, agreement: Agreement, settings: SGLDConfig, config: CalibrateConfig, work: Work) -> Plan:
    """At least so many draws of a document, and so many in store that documents share few of theirs."""
    multiple = METHODS[settings.estimator].multiple
    documents = max(FEWEST_DRAWS, up_to_multiple(draws, multiple))
    chains = max(FEWEST_CHAINS, settings.chains)
    stored = max(FEWEST_DRAWS, up_to_multiple(documents / config.draws_share / chains, 2))
    planned = replace(settings, chains=chains, draws=stored)
    cost = run_cost(planned, documents, work)
    return Plan(planned, documents, cost, agreement.reliability(documents), not agreement.told)


def plan_for(agreement: Agreement, settings: SGLDConfig, config: CalibrateConfig, work: Work) -> Plan:
    """As many draws as the target needs."""
    return plan_with(agreement.needed(config.target_reliability), agreement, settings, config, work)


@dataclass(frozen=True)
class Candidate:
    """An estimator at some γ, tried.

    Args:
        estimator: Its name.
        settings: Of the sampler, as the run would have them but for chains and draws.
        tilts: nβ sd(φ) of every component that the estimator takes for Gaussian.
        seen: Agreement of both measurements, component by component.
        agreement: Their median; None if nothing was measured.
        plan: How the target is reached with it.
        refused: Why it may not be chosen; empty if it may.
        common: Of every component whose mean gradient alone is used, the share of a gradient that this is.
    """

    estimator: str
    settings: SGLDConfig
    tilts: dict[str, float]
    seen: dict[str, Agreement]
    agreement: Agreement | None
    plan: Plan | None
    refused: str = ""
    common: dict[str, float] = field(default_factory=dict)


def bent(tilts: dict[str, float], limit: float) -> dict[str, float]:
    """The components whose posterior is not N(w*, I/γ), the worst first; what is not finite is bent."""
    found = {name: tilt for name, tilt in tilts.items() if not tilt <= limit}
    return dict(sorted(found.items(), key=lambda item: -item[1] if math.isfinite(item[1]) else -math.inf))


def uncommon(common: dict[str, float]) -> dict[str, float]:
    """The components of whose gradients too little is common to all draws, the worst first."""
    found = {name: share for name, share in common.items() if not share >= LEAST_COMMON}
    return dict(sorted(found.items(), key=lambda item: item[1] if math.isfinite(item[1]) else -math.inf))


def listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2g}" for name, value in values.items())


def objections(candidate: Candidate, limit: float) -> str:
    """Why what an estimator measures is not the posterior's; empty if it is."""
    wrong = bent(candidate.tilts, limit) if METHODS[candidate.estimator].gaussian else {}
    if wrong:
        return f"nβ sd(φ) above {limit:g}, not N(w*, I/γ): {listed(wrong)}"
    apart = uncommon(candidate.common)
    if apart:
        return f"share of a gradient that is common to all draws below {LEAST_COMMON:g}: {listed(apart)}"
    return ""


def judged(candidate: Candidate, limit: float, config: CalibrateConfig, work: Work) -> Candidate:
    """With its plan, and refused where the posterior is another than the estimator's."""
    candidate = replace(candidate, refused=candidate.refused or objections(candidate, limit))
    if candidate.agreement is None:
        return candidate
    return replace(candidate, plan=plan_for(candidate.agreement, candidate.settings, config, work))


def choose(candidates: Sequence[Candidate], own: str, tie: float) -> Candidate | None:
    """The cheapest that may be chosen and whose cost is known; the run file's estimator unless clearly dearer."""
    known = [(c.plan.cost, c) for c in candidates if c.plan is not None and not c.plan.bound and not c.refused]
    if not known:
        return None
    best, chosen = min(known, key=lambda pair: pair[0])
    kept = next(((cost, c) for cost, c in known if c.estimator == own), None)
    return kept[1] if kept is not None and best >= (1 - tie) * kept[0] else chosen


@dataclass(frozen=True)
class Bought:
    """What a setting costs and the reliability it has; at most that if the agreement could not be told from zero."""

    cost: float
    reliability: tuple[float, float, float]
    bound: bool


def published(agreement: Agreement, settings: SGLDConfig, worth: float, work: Work) -> Bought:
    """The published setting at these ε, nβ and γ; ``worth``: of a draw of the trial, in independent ones."""
    there = replace(settings, **PUBLISHED)  # type: ignore[arg-type]
    draws = there.chains * there.draws
    return Bought(run_cost(there, draws, work), agreement.reliability(draws / worth), not agreement.told)
