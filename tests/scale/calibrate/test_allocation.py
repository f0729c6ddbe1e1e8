"""How many draws are wanted, on measurements made up so that the answer is known; and which estimator is chosen."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scale.calibrate.allocation import (
    Agreement,
    Candidate,
    agreement_of,
    by_chance,
    choose,
    correlations,
    judged,
    plan_for,
    plan_with,
    published,
    sums_of,
)
from scale.chi.estimate import reliability
from scale.config import CalibrateConfig, SGLDConfig
from scale.costs import Work, run_cost

CONFIG = CalibrateConfig()
WORK = Work(measured=10_000, reference=500, minibatch=400, shares=[1.0, 0.5])
PLAIN = SGLDConfig(burn_in=40, steps_between_draws=8)
GRADIENT = replace(PLAIN, estimator="gaussian-gradient")
CONTEXTS, TOKENS = 12, 120


def parallel(odds: float, draws: int, components: int = 5, seed: int = 0) -> np.ndarray:
    """Two measurements of so many draws, each of which has signal and noise at these odds."""
    generator = np.random.default_rng(seed)
    signal = generator.standard_normal((components, 1, CONTEXTS, TOKENS)) * math.sqrt(odds)
    return signal + generator.standard_normal((components, 2, CONTEXTS, TOKENS)) / math.sqrt(draws)


@pytest.mark.parametrize(("odds", "tried"), [(0.02, 16), (0.3, 16), (1.5, 8)])
def test_the_draws_that_are_recommended_reach_the_target(odds: float, tried: int) -> None:
    """Measured again with as many draws, half of them in either half, the columns are as reliable as was asked."""
    found = agreement_of(parallel(odds, tried), tried)
    assert found.told
    plan = plan_for(found, GRADIENT, CONFIG, WORK)
    assert found.needed(0.8) == pytest.approx(4 / odds, rel=0.2)
    again = parallel(odds, plan.draws_per_document // 2, seed=1).reshape(5, 2, -1)
    reached = float(np.median(reliability(again.transpose(2, 1, 0))))
    assert reached == pytest.approx(plan.reliability[0], abs=0.03)
    assert plan.draws_per_document <= 4 or reached == pytest.approx(0.8, abs=0.05)


def test_the_interval_holds_the_truth() -> None:
    """In 19 of 20 trials, were it perfect; and where there is nothing, nothing is told from zero."""
    truth = 0.05 * 16 / (1 + 0.05 * 16)
    found = [agreement_of(parallel(0.05, 16, seed=seed), 16) for seed in range(40)]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.9
    assert all(one.told for one in found)
    nothing = [agreement_of(parallel(0.0, 16, seed=seed), 16) for seed in range(40)]
    assert np.mean([one.told for one in nothing]) <= 0.1


def test_an_error_that_tokens_of_a_context_share_widens_the_interval() -> None:
    """As if there were as many tokens as contexts."""
    generator = np.random.default_rng(0)
    shared = np.broadcast_to(generator.standard_normal((3, 2, CONTEXTS, 1)), (3, 2, CONTEXTS, TOKENS))
    found, independent = agreement_of(shared, 16), by_chance(0.0, CONTEXTS * TOKENS)
    assert found.high - found.low > 5 * (independent[1] - independent[0])
    assert not found.told


def test_one_context_of_one_component_has_an_interval_all_the_same() -> None:
    one = agreement_of(parallel(1.0, 1)[:1, :, :1], 1)
    assert (one.low, one.high) == pytest.approx(by_chance(one.value, TOKENS))
    assert one.low < 0.5 < one.high


def test_scale_place_and_order_do_not_matter() -> None:
    halves = parallel(0.3, 16)
    found = agreement_of(halves, 16)
    changed = (1e-6 * halves + 3e-4)[:, ::-1, ::-1]
    assert agreement_of(changed, 16).value == pytest.approx(found.value, abs=1e-9)
    expected = [np.corrcoef(*half.reshape(2, -1))[0, 1] for half in halves]
    assert correlations(sums_of(halves).sum(axis=0)) == pytest.approx(expected)
    assert correlations(sums_of(np.ones((1, 2, 3, 4))).sum(axis=0)) == [0.0]


def test_what_cannot_be_told_from_zero_gives_a_bound() -> None:
    """The upper end of the interval, were it the truth, would need so many draws; fewer it cannot be."""
    found = agreement_of(parallel(0.0, 16), 16)
    plan = plan_for(found, PLAIN, CONFIG, WORK)
    assert plan.bound
    assert found.high > 0
    best = Agreement(16, found.high, found.high, found.high)
    assert plan.draws_per_document == plan_for(best, PLAIN, CONFIG, WORK).draws_per_document > 200
    assert not plan_for(best, PLAIN, CONFIG, WORK).bound


@pytest.mark.parametrize("value", [0.01, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("settings", [PLAIN, GRADIENT, replace(PLAIN, chains=10)])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.9])
def test_a_plan_reaches_the_target_with_no_more_than_it_takes(value: float, settings: SGLDConfig, share: float) -> None:
    found, config = Agreement(16, value, value, value), replace(CONFIG, draws_share=share)
    plan = plan_for(found, settings, config, WORK)
    multiple = 2 if settings.estimator == "plain" else 4
    assert plan.draws_per_document % multiple == 0
    assert plan.draws_per_document >= 4
    assert plan.settings.draws % 2 == 0
    assert plan.settings.chains == max(4, settings.chains)
    assert plan.draws_per_document <= share * plan.settings.chains * plan.settings.draws
    assert plan.reliability[0] >= 0.8 - 1e-9
    assert plan.draws_per_document == 4 or found.reliability(plan.draws_per_document - multiple)[0] < 0.8 - 1e-9
    assert plan.cost == run_cost(plan.settings, plan.draws_per_document, WORK)


def test_more_draws_cost_more_and_are_more_reliable() -> None:
    found = Agreement(16, 0.3, 0.2, 0.4)
    plans = [plan_with(draws, found, PLAIN, CONFIG, WORK) for draws in (4, 40, 400)]
    assert sorted(plan.cost for plan in plans) == [plan.cost for plan in plans]
    for plan in plans:
        value, low, high = plan.reliability
        assert low < value < high
    assert plans[0].reliability[0] < plans[2].reliability[0]


def candidate(name: str = "plain", value: float = 0.5, told: bool = True, **tilts: float) -> Candidate:
    settings = PLAIN if name == "plain" else GRADIENT
    agreement = Agreement(16, value, value / 2 if told else -value, min(0.99, 2 * value))
    bare = Candidate(name, settings, tilts, {}, agreement, None)
    return judged(bare, 0.5, CONFIG, WORK)


def test_an_estimator_that_is_not_of_this_posterior_is_refused() -> None:
    """However cheap it is, and whichever component it is; at the limit it is let pass."""
    plain = candidate("plain", 0.3)
    bent = candidate("gaussian-gradient", 0.95, l0h0=0.2, unembed=2.3, embed=0.51)
    assert bent.plan is not None
    assert plain.plan is not None
    assert bent.plan.cost < plain.plan.cost / 10
    assert bent.refused == "nβ sd(φ) above 0.5, not N(w*, I/γ): unembed 2.3, embed 0.51"
    assert choose([plain, bent], "gaussian-gradient", 0.2) is plain
    assert choose([bent], "gaussian-gradient", 0.2) is None
    straight = candidate("gaussian-gradient", 0.95, l0h0=0.2, unembed=0.5)
    assert not straight.refused
    assert choose([plain, straight], "plain", 0.2) is straight
    assert candidate("gaussian-gradient", 0.95, l0h0=math.nan).refused
    assert not candidate("plain", 0.3, l0h0=9.0).refused  # follows the posterior wherever it goes


def test_what_is_only_bounded_is_not_chosen() -> None:
    bounded = candidate("plain", 0.01, told=False)
    assert choose([bounded], "plain", 0.2) is None
    dear = candidate("gaussian-gradient", 0.05)
    assert choose([bounded, dear], "plain", 0.2) is dear


def test_the_run_file_s_estimator_stays_unless_another_is_clearly_cheaper() -> None:
    def costing(name: str, cost: float) -> Candidate:
        one = candidate(name)
        assert one.plan is not None
        return replace(one, plan=replace(one.plan, cost=cost))

    for ratio, taken in ((0.85, "plain"), (0.75, "gaussian-gradient")):
        both = [costing("plain", 1e6), costing("gaussian-gradient", ratio * 1e6)]
        for order in (both, both[::-1]):
            chosen = choose(order, "plain", 0.2)
            assert chosen is not None
            assert chosen.estimator == taken


def test_what_the_published_setting_buys() -> None:
    """400 independent draws; of the trial's, each is worth half of one."""
    found = Agreement(16, 0.1, 0.05, 0.2)
    bought = published(found, PLAIN, 0.5, WORK)
    odds = 0.1 / 0.9 * 400 / (16 * 0.5)
    assert bought.reliability[0] == pytest.approx(odds / (1 + odds))
    assert not bought.bound
    steps = 4 * (40 + 100 * 160)
    expected = 2.5 * (steps * 3 * 400 + 400 * 500 + 400 * 10_000)
    assert bought.cost == pytest.approx(expected)
    assert published(replace(found, low=-0.1), PLAIN, 0.5, WORK).bound


def test_bad_sizes_of_a_trial() -> None:
    for changes, said in (({"allocation_draws": 6}, "multiple of 4"), ({"draws_share": 1.0}, "between 0 and 1")):
        arguments: dict[str, Any] = changes
        with pytest.raises(ValueError, match=said):
            CalibrateConfig(**arguments)
