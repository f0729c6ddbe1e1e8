"""What an allocation says and writes, on trials made up so that the answer is known."""

from dataclasses import replace
from typing import Any

import pytest

from balmer.calibrating.allocation import gammas, objection, values_of, with_estimator
from balmer.calibrating.allocation_page import allocation_section
from balmer.calibrating.allocation_words import Allocation, allocation_table, bought_line, lines
from scale.calibrate.allocation import Agreement, Candidate, choose, judged, published
from scale.calibrate.recommend import Outcome, Recommendation
from scale.config import CalibrateConfig, SGLDConfig
from scale.costs import Work

CONFIG = CalibrateConfig()
SETTINGS = SGLDConfig(step_size=1e-4, localization=300.0, burn_in=40, steps_between_draws=8)
WORK = Work(measured=10_000, reference=500, minibatch=400, shares=[1.0, 0.5])
FOUND = Recommendation(
    {"step_size": 1e-4, "nbeta": 30.0, "localization": 300.0, "burn_in": 40, "steps_between_draws": 8},
    Outcome("step", SETTINGS, []),
    [],
)


def candidate(name: str, gamma: float, value: float, told: bool = True, **tilts: float) -> Candidate:
    agreement = Agreement(16, value, value / 2 if told else -0.1, value * 1.05)
    settings = with_estimator(SETTINGS, name, gamma)
    return judged(Candidate(name, settings, tilts, {"l0h0": agreement}, agreement, None), 0.5, CONFIG, WORK)


def allocation(*candidates: Candidate) -> Allocation:
    chosen, plain = choose(candidates, "plain", 0.2), candidates[0]
    bought = published(plain.agreement, SETTINGS, 0.5, WORK) if plain.agreement else None
    return Allocation("covariance", 0.8, WORK, candidates, chosen, bought)


BOUNDED = candidate("plain", 300.0, 0.05, told=False)
BENT = candidate("gaussian-gradient", 300.0, 0.9, l0h0=0.3, unembed=2.3)
STRAIGHT = candidate("gaussian-gradient", 900.0, 0.9, l0h0=0.1, unembed=0.4)


def test_a_larger_gamma_takes_the_step_with_it() -> None:
    found = values_of(FOUND, allocation(BOUNDED, BENT, STRAIGHT))
    assert found["sgld"]["localization"] == 900.0
    assert found["sgld"]["step_size"] == pytest.approx(1e-4 / 3, rel=0.005)
    assert found["sgld"]["estimator"] == "gaussian-gradient"
    assert (found["sgld"]["burn_in"], found["sgld"]["nbeta"]) == (40, 30.0)
    assert found["probe"]["draws_per_document"] == 8
    assert found["sgld"]["chains"] * found["sgld"]["draws"] == 32  # type: ignore[operator]
    assert "step_size" not in values_of(None, allocation(BOUNDED, STRAIGHT))["sgld"]


def test_chains_that_carry_gradients_have_steps_of_their_own() -> None:
    """A quarter of the way back to the trained weights at once, at any γ, whatever the sampler's steps are."""
    carried = candidate("tangent-gradient", 300.0, 0.9)
    for found in (FOUND, None):
        sgld = values_of(found, allocation(BOUNDED, BENT, carried))["sgld"]
        assert sgld["estimator"] == "tangent-gradient"
        assert sgld["step_size"] == pytest.approx(0.5 / 300.0, rel=0.005)
        assert (sgld["burn_in"], sgld["steps_between_draws"]) == (16, 1)
    wide = with_estimator(SETTINGS, "tangent-gradient", 30.0)
    assert wide.step_size * wide.localization / 2 == pytest.approx(0.25, rel=0.005)


def test_a_mean_gradient_that_draws_do_not_share_is_refused() -> None:
    agreement = Agreement(16, 0.9, 0.8, 0.95)
    for share, refused in ((0.81, False), (0.5, True), (float("nan"), True)):
        settings = with_estimator(SETTINGS, "mean-gradient", 300.0)
        bare = Candidate(
            "mean-gradient", settings, {"l0h0": 0.1}, {}, agreement, None, common={"l0h0": share, "l1": 0.9}
        )
        one = judged(bare, 0.5, CONFIG, WORK)
        said = f"share of a gradient that is common to all draws below 0.8: l0h0 {share:.2g}"
        assert one.refused == (said if refused else "")
        assert one.plan is not None
        assert (choose([one], "plain", 0.2) is None) == refused


def test_without_a_choice_the_sampler_s_values_are_left_alone() -> None:
    assert values_of(FOUND, allocation(BOUNDED, BENT)) == {"sgld": FOUND.values}
    assert values_of(FOUND, None) == {"sgld": FOUND.values}
    assert values_of(None, allocation(BOUNDED, BENT)) == {}


def test_what_is_said_of_a_choice() -> None:
    said = lines(allocation(BOUNDED, BENT, STRAIGHT))
    assert said[0] == "Allocation for aux.estimator covariance: median reliability 0.8 of 2 columns, 10,000 tokens"
    assert said[1].startswith("  plain, γ 300: at least ")
    assert said[1].endswith("which cannot be told from zero")
    assert said[2] == "  gaussian-gradient, γ 300: refused: nβ sd(φ) above 0.5, not N(w*, I/γ): unembed 2.3"
    assert said[3].startswith("  gaussian-gradient, γ 900: 8 draws a document, 4 x 8 in store, ")
    assert said[4].startswith("  published setting, plain 4 x 100 draws 160 steps apart: reliability at most 0.7")
    assert "gaussian-gradient is chosen" in said[5]
    assert "plain costs at least " in said[5]


def test_what_is_said_where_there_is_no_choice() -> None:
    last = lines(allocation(BOUNDED, BENT))[-1]
    assert "no estimator is chosen: try longer trials, --calibrate.allocation_draws 64; leave unembed out" in last
    assert bought_line(None).endswith("cannot be said without a trial of plain")


def test_why_an_estimator_is_not_tried() -> None:
    cases: list[tuple[dict[str, Any], str, bool, str]] = [
        ({}, "plain", False, "no setting"),
        ({}, "plain", True, ""),
        ({}, "gaussian-gradient", False, ""),
        ({"localization": 0.0}, "gaussian-gradient", True, "sgld.localization is 0"),
        ({"localization": 0.0}, "plain", True, ""),
        ({"sampler": "gaussian"}, "gaussian-gradient", True, "control"),
    ]
    for changes, name, is_set, said in cases:
        found = objection(replace(SETTINGS, **changes), name, is_set)
        assert (said in found) if said else (found == "")


def test_only_what_needs_a_tight_posterior_is_tried_at_others() -> None:
    assert gammas(SETTINGS, "gaussian-gradient", (10.0, 0.3, 1.0, 3.0)) == [300.0, 900.0, 3000.0]
    assert gammas(SETTINGS, "plain", (0.3, 1.0, 3.0)) == [300.0]


def test_the_table_tells_candidates_apart() -> None:
    table = allocation_table(
        allocation(BOUNDED, BENT, STRAIGHT, Candidate("plain", SETTINGS, {}, {}, None, None, "no"))
    )
    assert table["component"].to_list() == ["l0h0", "l0h0", "unembed", "l0h0", "unembed", None]
    assert table["tilt"].to_list() == [None, 0.3, 2.3, 0.1, 0.4, None]
    assert table.filter("chosen")["localization"].unique().to_list() == [900.0]
    assert table["bound"].to_list() == [True, False, False, False, False, None]


def test_names_from_a_run_file_are_escaped_in_the_page() -> None:
    worst = candidate("gaussian-gradient", 300.0, 0.9, **{"<b>": 2.3})
    page = allocation_section(allocation(BOUNDED, worst), CONFIG)
    assert "<b>" not in page
    assert "&lt;b&gt; 2.3" in page
