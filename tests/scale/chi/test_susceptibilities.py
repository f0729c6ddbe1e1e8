"""The public functions on a model in memory."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import balmer
import scale.draws.chains
from conftest import VOCABULARY, make_model
from eval.influence import influence
from scale.chi.susceptibilities import LearningCoefficients, Susceptibilities
from scale.config import ModelConfig, ProbeConfig, SGLDConfig
from scale.errors import UserError
from scale.model.language_model import choose_device

from spoiled import spoil  # isort: skip

GENERATOR = np.random.default_rng(0)
CONTEXTS, REFERENCE = GENERATOR.integers(0, VOCABULARY, (4, 12)), GENERATOR.integers(0, VOCABULARY, (6, 12))
SAMPLER = SGLDConfig(step_size=1e-4, chains=2, burn_in=5, draws=6, steps_between_draws=1, batch_contexts=2)
PROBE = ProbeConfig(draws_per_document=8)
NAMES = ["l0h0", "l1 mlp", "unembed"]


def measure(seed: int = 0, **options: Any) -> Susceptibilities:
    model = make_model("gpt_neox")
    settings: dict[str, Any] = {"reference": REFERENCE, "sampler": SAMPLER, "probe": PROBE, "seed": seed}
    return balmer.susceptibilities(model, CONTEXTS, NAMES, **(settings | options))


def learning_coefficients(sampler: SGLDConfig = SAMPLER) -> LearningCoefficients:
    return balmer.local_learning_coefficients(make_model("gpt_neox"), REFERENCE, NAMES, sampler=sampler)


def test_shapes_names_and_reproducibility() -> None:
    found = measure(0)
    assert found.chi.shape == (4 * 11, 3)
    assert found.chi.dtype == np.float64
    assert found.components == tuple(NAMES)
    assert found.tokens[:12].tolist() == [[0, p] for p in range(1, 12)] + [[1, 1]]
    assert found.diagnostics["component"].to_list() == [*NAMES, "full"]
    assert np.array_equal(found.chi, measure(0).chi)
    assert not np.allclose(found.chi, measure(1).chi)


def test_the_llc_is_that_of_the_chains() -> None:
    """nβ(E[L] - L*) of the same component, by the same chains, through either function."""
    llc = learning_coefficients()
    assert llc.components == tuple(NAMES)
    assert np.allclose(llc.llc, measure(0).llc)


def test_the_diagnostics_tell_of_every_component() -> None:
    found = measure()
    table = found.diagnostics
    assert np.allclose(table["reliability"].to_numpy()[:-1], found.reliability)
    assert np.allclose(table["llc"].to_numpy()[:-1], found.llc)
    assert np.allclose((table["share_covariance"] + table["share_shift"]).to_numpy()[:-1], 1)
    assert (table["llc_error"] > 0).all()
    assert table["draws"].to_list() == [12] * 4
    assert table["failure"].to_list() == [None] * 4
    for name in ("rhat", "ess", "autocorrelation_time", "lag1"):
        assert table[name].is_finite().all(), name
    only = measure(estimator="covariance")
    assert np.allclose(only.reliability, table["reliability_covariance"].to_numpy()[:-1])


def test_a_component_that_fails_is_a_column_of_nan_and_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure()
    spoil(monkeypatch, lambda key: key.component.name == "l1 mlp" and key.chain == 1)
    found = measure()
    assert np.isnan(found.chi[:, 1]).all()
    assert np.isnan(found.halves[:, :, 1]).all()
    assert np.isnan(found.reliability[1])
    assert np.array_equal(found.chi[:, [0, 2]], whole.chi[:, [0, 2]])
    assert found.diagnostics["failure"].to_list() == [None, "1 of 2 chains diverged at step size 0.0001", None, None]
    assert found.diagnostics["excluded_chains"].to_list() == [0, 1, 0, 0]
    llc = learning_coefficients()
    assert np.isfinite(llc.llc).all()  # of the chain that is left,
    assert np.isnan(llc.error[1])  # whose error nothing tells


def test_a_component_without_any_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda key: key.component.name == "l0h0")
    found = measure()
    assert np.isnan(found.llc[0]) and np.isfinite(found.llc[1:]).all()  # noqa: PT018
    llc = learning_coefficients()
    assert np.isnan(llc.llc).tolist() == [True, False, False]
    assert llc.diagnostics["failure"][0] == "2 of 2 chains diverged at step size 0.0001"


def test_without_the_full_model_only_the_covariance_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(estimator="covariance")
    spoil(monkeypatch, lambda key: key.component.name == "full")
    assert np.array_equal(measure(estimator="covariance").chi, whole.chi)
    with pytest.raises(UserError, match=r"^sampler.step_size: the chains of the full model diverged at 0.0001; "):
        measure()


def test_when_every_chain_diverges_a_step_that_holds_is_named() -> None:
    wild = SGLDConfig(sampler="sgld", step_size=10.0, chains=2, burn_in=2, draws=6, batch_contexts=2)
    expected = r"^sampler.step_size: every chain diverged at 10; 0\.\d+ did not, in a short trial of l0h0; use that or"
    with pytest.raises(UserError, match=expected) as told:
        measure(sampler=wild)
    with pytest.raises(UserError, match=expected):
        learning_coefficients(wild)
    step = float(str(told.value).split("; ")[1].split(" did not")[0])
    assert np.isfinite(learning_coefficients(replace(wild, step_size=step)).llc[0])


def test_a_model_whose_loss_is_no_number() -> None:
    model = make_model("gpt_neox")
    with torch.no_grad():
        model.gpt_neox.final_layer_norm.bias[3] = float("inf")
    with pytest.raises(UserError, match=r"^model.path: the loss at the trained weights is nan; "):
        balmer.susceptibilities(model, CONTEXTS, NAMES, reference=REFERENCE, sampler=SAMPLER, probe=PROBE)


def trained_halfway() -> Any:
    """A model as a user may have it: in training, some parameters frozen, one module evaluating."""
    model = make_model("gpt_neox").train()
    model.gpt_neox.layers[1].eval()
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 3 > 0)
    return model


def state_of(model: Any) -> tuple[list[bool], list[bool], list[bytes]]:
    parameters = list(model.parameters())
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in parameters],
        [parameter.detach().numpy().tobytes() for parameter in parameters],
    )


CALLS: dict[str, Callable[[Any], Any]] = {
    "susceptibilities": lambda model: balmer.susceptibilities(
        model, CONTEXTS, NAMES, reference=REFERENCE, sampler=SAMPLER, probe=PROBE
    ),
    "local_learning_coefficients": lambda model: balmer.local_learning_coefficients(
        model, REFERENCE, NAMES, sampler=SAMPLER
    ),
    "influence": lambda model: influence(model, CONTEXTS, REFERENCE, "l1h0", sampler=SAMPLER),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_model_is_left_as_it_was_found(name: str) -> None:
    model = trained_halfway()
    before = state_of(model)
    assert True in before[0] and False in before[0] and True in before[1] and False in before[1]  # noqa: PT018
    CALLS[name](model)
    assert state_of(model) == before
    assert not any(hasattr(module, "forward") and "forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", CALLS)
def test_the_model_is_left_as_it_was_found_after_an_exception(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = trained_halfway(), list[bool]()
    before = state_of(model)

    def fail(tail: Any, *rest: Any) -> np.ndarray:
        seen.append(any(module.training for module in tail.language_model.model.modules()))
        raise KeyboardInterrupt

    monkeypatch.setattr(scale.draws.chains, "mean_losses", fail)
    with pytest.raises(KeyboardInterrupt):
        CALLS[name](model)
    assert seen == [False]  # in between nothing trains
    assert state_of(model) == before


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_float16_on_a_cpu(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"^model.dtype: float16 is not supported on model.device: cpu; use float32"):
        choose_device(ModelConfig(device=device, dtype="float16"))


def test_a_float16_model_on_a_cpu_is_refused_and_bfloat16_is_not() -> None:
    with pytest.raises(UserError, match=r"model.dtype: float16 is not supported"):
        CALLS["susceptibilities"](make_model("gpt_neox").half())
    assert choose_device(ModelConfig(device="cpu", dtype="bfloat16")).type == "cpu"


@pytest.mark.parametrize(
    ("contexts", "message"),
    [
        (np.full((2, 8), VOCABULARY), "token ids must lie in"),
        (np.zeros((2, 1), int), "at least 2"),
        (np.zeros((2, 8)), "expected integer"),
        (np.zeros(8, int), "expected integer"),
        (np.zeros((0, 8), int), "expected integer"),
        (np.full((2, 8), -1), "token ids must lie in"),
        (np.zeros((2, 65), int), "65 tokens are more than the model's window of 64; cut the contexts shorter"),
        ([[1, 2, 3], [1, 2]], "every context must have equally many tokens; cut them to one length"),
    ],
)
def test_contexts_that_are_none(contexts: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^contexts: .*{re.escape(message)}"):
        balmer.susceptibilities(make_model("gpt_neox"), contexts, NAMES, reference=REFERENCE)
    with pytest.raises(UserError, match=f"^reference: .*{re.escape(message)}"):
        balmer.local_learning_coefficients(make_model("gpt_neox"), contexts, NAMES)
