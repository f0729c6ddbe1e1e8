"""The public functions on a model in memory."""

import numpy as np
import pytest

import balmer
from conftest import VOCABULARY, make_model
from scale.config import ProbeConfig, SGLDConfig
from scale.errors import UserError

GENERATOR = np.random.default_rng(0)
CONTEXTS, REFERENCE = GENERATOR.integers(0, VOCABULARY, (4, 12)), GENERATOR.integers(0, VOCABULARY, (6, 12))
SAMPLER = SGLDConfig(step_size=1e-4, chains=2, burn_in=5, draws=6, steps_between_draws=1, batch_contexts=2)
PROBE = ProbeConfig(draws_per_document=8)
NAMES = ["l0h0", "l1 mlp", "unembed"]


def measure(seed: int) -> object:
    model = make_model("gpt_neox")
    return balmer.susceptibilities(model, CONTEXTS, NAMES, reference=REFERENCE, sampler=SAMPLER, probe=PROBE, seed=seed)


def test_shapes_names_and_reproducibility() -> None:
    found = measure(0)
    assert found.chi.shape == (4 * 11, 3)  # type: ignore[attr-defined]
    assert found.chi.dtype == np.float64  # type: ignore[attr-defined]
    assert found.components == tuple(NAMES)  # type: ignore[attr-defined]
    assert found.tokens[:12].tolist() == [[0, p] for p in range(1, 12)] + [[1, 1]]  # type: ignore[attr-defined]
    assert found.diagnostics["component"].to_list() == [*NAMES, "full"]  # type: ignore[attr-defined]
    assert np.array_equal(found.chi, measure(0).chi)  # type: ignore[attr-defined]
    assert not np.allclose(found.chi, measure(1).chi)  # type: ignore[attr-defined]


def test_the_llc_is_that_of_the_chains() -> None:
    """nβ(E[L] - L*) of the same component, by the same chains, through either function."""
    llc = balmer.local_learning_coefficients(make_model("gpt_neox"), REFERENCE, NAMES, sampler=SAMPLER)
    assert list(llc) == NAMES
    assert np.allclose(list(llc.values()), measure(0).llc)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("contexts", "message"),
    [
        (np.full((2, 8), VOCABULARY), "token ids must lie in"),
        (np.zeros((2, 1), int), "at least 2"),
        (np.zeros((2, 8)), "expected integer"),
        (np.zeros(8, int), "expected integer"),
    ],
)
def test_contexts_that_are_none(contexts: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        balmer.susceptibilities(make_model("gpt_neox"), contexts, NAMES, reference=REFERENCE)
