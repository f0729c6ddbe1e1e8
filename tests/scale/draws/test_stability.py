"""The step size that is named when chains diverge: the first of the trials that holds, and the one before did not."""

import numpy as np
import pytest
import torch

from conftest import VOCABULARY, make_model
from scale.config import SGLDConfig
from scale.draws.chains import ChainKey, draw_chains, trained_loss
from scale.draws.stability import largest_stable_step, too_large, trials
from scale.model.batches import Budget
from scale.model.components import select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail

DATA = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (6, 12)))
WILD = SGLDConfig(sampler="sgld", step_size=2.0, chains=2, burn_in=5, draws=20, batch_contexts=2)


def test_trials_are_short_and_go_down() -> None:
    found = list(trials(WILD))
    assert [t.step_size for t in found[:4]] == [0.67, 0.2, 0.067, 0.02]
    assert found[-1].step_size == 2e-6
    assert all(t.total_steps == 45 and t.nbeta == WILD.nbeta for t in found)  # the whole chain has 45
    assert next(trials(SGLDConfig(draws=1000))).total_steps == 50


@pytest.mark.parametrize("name", ["l2h0", "l1 mlp"])
def test_the_largest_step_that_holds(name: str) -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    component = select(language_model.model, language_model.architecture, [name])[0]
    pool, budget = Tail.at(language_model, DATA, component.start), Budget(4096)
    trained = trained_loss(pool, budget)
    step = largest_stable_step(component, pool, WILD, trained, budget)
    assert step is not None
    steps = [trial.step_size for trial in trials(WILD)]
    assert 0 < steps.index(step) < len(steps) - 1
    keys = [ChainKey(component, chain) for chain in range(2)]

    def diverged(trial: SGLDConfig) -> bool:
        return any(c.diverged(trained, WILD.runaway) for c in draw_chains(keys, pool, trial, budget))

    by_step = {trial.step_size: trial for trial in trials(WILD)}
    assert not diverged(by_step[step])
    assert diverged(by_step[steps[steps.index(step) - 1]])
    said = too_large("sgld.step_size", "every chain", component, pool, WILD, trained, budget)
    assert said == (
        f"sgld.step_size: every chain diverged at 2; {step:g} did not, in a short trial of {name}; use that or less"
    )


def test_when_no_step_holds() -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    component = select(language_model.model, language_model.architecture, ["l2h0"])[0]
    pool, budget = Tail.at(language_model, DATA, component.start), Budget(4096)
    strict = SGLDConfig(sampler="sgld", step_size=2.0, runaway=-100.0, draws=1, burn_in=0, steps_between_draws=1)
    assert largest_stable_step(component, pool, strict, 0.0, budget) is None
    said = too_large("sgld.step_size", "every chain", component, pool, strict, 0.0, budget)
    assert said.endswith("in short trials every step down to 2e-06 did too; check localization and nbeta")
