"""Which setting is recommended, on outcomes made up so that the answer is known."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from scale.calibrate.criteria import CRITERIA, Judgement, Verdict
from scale.calibrate.recommend import (
    FAILURES,
    REMEDIES,
    Outcome,
    Sweep,
    best_step,
    grid,
    is_too_large,
    recommend,
    refusal,
    step_sweep,
    steps_between,
    worth_of,
)
from scale.config import CalibrateConfig, SGLDConfig

SETTINGS, CONFIG = SGLDConfig(step_size=1e-4, nbeta=30.0, localization=300.0), CalibrateConfig()


def outcome(
    step: float = 1e-4,
    failing: str = "",
    sweep: Sweep = "step",
    reliability: float = 0.5,
    nbeta: float = 30.0,
    gamma: float = 300.0,
    time: float = 9.0,
) -> Outcome:
    """Two components and the full model, which all do the same."""
    bad = set(failing.split())
    verdicts = {name: Verdict(0.25, 0.1, name not in bad) for name in CRITERIA}
    figures = {"loss_time": time / 2, "weights_time": time, "stiffness": gamma * 1.1, "rise": 0.1}
    parts = [Judgement(n, verdicts, figures | {"reliability": reliability}, 1e6) for n in ("l0h0", "unembed")]
    settings = replace(SETTINGS, step_size=step, nbeta=nbeta, localization=gamma)
    return Outcome(sweep, settings, [*parts, Judgement("full", verdicts, figures, 2e6)])


def test_criteria_all_have_words() -> None:
    assert set(FAILURES) == set(REMEDIES) == set(CRITERIA)


def test_the_first_sweep_goes_up_in_steps_around_the_run_s() -> None:
    steps = [settings.step_size for settings in step_sweep(SETTINGS, CONFIG)]
    assert steps == [1e-5, 3e-5, 1e-4, 3e-4, 1e-3]
    assert is_too_large(outcome(failing="unbiased"))
    assert is_too_large(outcome(failing="stays"))
    assert not is_too_large(outcome(failing="flattens agrees"))


def test_the_largest_step_that_passes_is_taken() -> None:
    tried = [outcome(1e-5, "flattens"), outcome(3e-5), outcome(1e-4), outcome(3e-4, "unbiased")]
    found = best_step(tried)
    assert found is tried[2]
    recommended = recommend(tried, SETTINGS, CONFIG)
    assert recommended is not None
    assert recommended.values["step_size"] == 1e-4
    why = recommended.reasons[0]
    assert why.startswith("ε 0.0001: the largest at which all pass, its bias 25%; at 0.0003 ")
    assert "at 0.0003 the step inflates the variance of l0h0 by 25% (limit 10%)" in why


def test_without_one_that_passes_the_grid_starts_where_least_fails() -> None:
    tried = [outcome(1e-5, "flattens agrees"), outcome(3e-5, "local"), outcome(1e-4, "stays")]
    assert best_step(tried) is tried[1]
    too_large = [outcome(1e-5, "flattens agrees"), outcome(1e-4, "unbiased")]
    assert best_step(too_large) is too_large[0]
    assert best_step([outcome(1e-5, "stays")]) is None
    saved = outcome(1e-5, sweep="grid", gamma=900.0)
    recommended = recommend([*tried, saved], SETTINGS, CONFIG)
    assert recommended is not None
    assert recommended.chosen is saved
    assert recommended.reasons[0].endswith("with ε·γ as at 3e-05, which came closest while γ was the run file's")


def test_the_grid_keeps_the_product_of_step_and_localization() -> None:
    found = grid(SETTINGS, CONFIG)
    assert len(found) == 8  # the run file's own has been tried
    assert {(s.nbeta, s.localization) for s in found} == {
        (n, g) for n in (9.0, 30.0, 90.0) for g in (90.0, 300.0, 900.0)
    } - {(30.0, 300.0)}
    assert all(s.step_size * s.localization == pytest.approx(0.03, rel=0.005) for s in found)
    assert grid(replace(SETTINGS, nbeta=0.0, localization=0.0), CONFIG) == []


def test_the_run_file_s_values_are_kept_unless_others_are_clearly_cheaper() -> None:
    """The odds r / (1 - r) grow with cost: 0.5 to 0.55 is 1.22 times cheaper, 0.5 to 0.6 1.5 times."""
    own = outcome(reliability=0.5)
    for other, taken in ((0.54, False), (0.6, True)):
        rival = outcome(sweep="grid", gamma=90.0, reliability=other)
        found = recommend([own, rival], SETTINGS, CONFIG)
        assert found is not None
        assert (found.chosen is rival) is taken
    assert found.reasons[0].startswith("ε 0.0001: the largest")
    assert "1.5 times fewer than at the run file's" in found.reasons[1]
    failing = outcome(sweep="grid", gamma=90.0, reliability=0.9, failing="local")
    kept = recommend([own, failing], SETTINGS, CONFIG)
    assert kept is not None
    assert kept.chosen is own
    assert kept.reasons[1].startswith("nβ 30, γ 300: kept; χ of reliability 0.8 takes 16.00 M token passes")


def test_the_cost_of_a_reliable_chi() -> None:
    """From odds 1 to odds 4 at 4 million passes."""
    assert outcome(reliability=0.5).cost_to(0.8) == pytest.approx(16e6)
    costs = [outcome(reliability=r).cost_to(0.8) for r in (0.8, 0.6, 0.4, 0.2, 0.0)]
    assert costs[0] == pytest.approx(4e6)
    assert all(a < b for a, b in pairwise(costs))
    assert costs[-1] == math.inf


def test_steps_between_draws_make_them_worth_what_was_asked() -> None:
    """Draws s steps apart have a correlation of ρ^s and are worth (1 - ρ^s) / (1 + ρ^s)."""
    for time in (1.0, 2.0, 5.0, 13.0, 130.0):
        correlation, steps = (time - 1) / (time + 1), steps_between(time, 0.5)

        def worth(count: int, correlation: float = correlation) -> float:
            return (1 - correlation**count) / (1 + correlation**count)

        assert worth(steps) >= 0.5 - 1e-12
        assert steps == 1 or worth(steps - 1) < 0.5
        assert worth_of(time, steps) == pytest.approx(worth(steps))
    assert steps_between(1.0, 0.99) == 1
    assert worth_of(13.0, 160) == pytest.approx(1.0)
    assert worth_of(1.0, 1) == worth_of(0.9, 3) == 1.0


def test_burn_in_and_steps_come_from_the_times() -> None:
    found = recommend([outcome(time=13.0)], SETTINGS, CONFIG)
    assert found is not None
    assert found.values == {
        "step_size": 1e-4, "nbeta": 30.0, "localization": 300.0, "burn_in": 39, "steps_between_draws": 8,
    }  # fmt: skip


def test_when_nothing_passes_it_says_what_failed_most_and_what_to_try() -> None:
    tried = [outcome(1e-5, "flattens agrees"), outcome(3e-5, "flattens"), outcome(1e-4, "stays")]
    assert recommend(tried, SETTINGS, CONFIG) is None
    said = refusal(tried, CONFIG)
    assert said[0] == "No setting passes. Failed most: 'flattens', in 6 of 9 trials."
    assert "ε 3e-05, nβ 30, γ 300, where l0h0 still drifts by 25% of its rise (limit 10%)" in said[1]
    assert said[2] == "Largest ε at which no chain diverged: 3e-05."
    assert said[3] == "Try longer chains: --calibrate.steps 160."
    assert refusal([outcome(failing="stays")], CONFIG)[2] == "At every ε a chain diverged."
