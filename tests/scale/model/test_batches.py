"""Memory that runs out: work goes on in smaller steps, and where no step is small enough one line says so."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import VOCABULARY, make_model
from scale.draws.chains import ChainKey, mean_losses
from scale.errors import UserError
from scale.model.batches import Budget, DoesNotFitError, is_out_of_memory, memory_explained
from scale.model.components import select
from scale.model.language_model import LanguageModel
from scale.model.tail import Tail
from scale.model.variants import Stack, size_of

ROOT = Path(__file__).resolve().parents[3]
FULL = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."


def only(most: int, done: list[int], error: BaseException) -> Callable[[int, int], None]:
    """Work of which no more than ``most`` fits at once."""

    def function(begin: int, end: int) -> None:
        if end - begin > most:
            raise error
        done.extend(range(begin, end))

    return function


@pytest.mark.parametrize(
    "error", [RuntimeError(FULL), RuntimeError("std::bad_alloc"), MemoryError(), torch.OutOfMemoryError("CUDA ...")]
)
def test_halved_until_it_fits_and_everything_is_done_once(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    done, budget = list[int](), Budget(160)
    budget.ranges(23, lambda: budget.variants(10), only(3, done, error))
    assert done == list(range(23))
    assert budget.tokens == 20  # 16 at once, 8, 4, 2
    assert caplog.messages[0] == "out of memory with 16 variants at once; going on with 8"
    assert len(caplog.messages) == 3


def test_nothing_is_said_or_changed_when_all_fits(caplog: pytest.LogCaptureFixture) -> None:
    done, budget = list[int](), Budget(160)
    budget.ranges(23, lambda: budget.variants(10), only(16, done, MemoryError()))
    assert (done, budget.tokens, caplog.messages) == (list(range(23)), 160, [])


def test_other_errors_are_not_about_memory() -> None:
    budget = Budget(160)
    with pytest.raises(RuntimeError, match="shapes"):
        budget.ranges(5, lambda: budget.variants(10), only(0, [], RuntimeError("shapes do not match")))
    assert budget.tokens == 160
    assert not is_out_of_memory(UserError("no")) and not is_out_of_memory(ValueError("can't allocate memory"))  # noqa: PT018


def test_not_even_one() -> None:
    budget = Budget(160)
    with pytest.raises(UserError, match=r"^model.device: out of memory with as little at once as possible; lower "):
        budget.ranges(5, lambda: budget.variants(10), only(0, [], MemoryError()))


@pytest.mark.parametrize("most", [1, 5, 12])
def test_an_outer_range_is_made_smaller_when_the_inner_cannot_be(most: int) -> None:
    """Contexts outside, variants inside: what fits is their product."""
    done, budget = list[tuple[int, int]](), Budget(100)

    def contexts(first: int, last: int) -> None:
        found: list[tuple[int, int]] = []

        def variants(begin: int, end: int) -> None:
            if (last - first) * (end - begin) > most:
                raise MemoryError
            found.extend((c, v) for c in range(first, last) for v in range(begin, end))

        budget.ranges(6, lambda: budget.variants(10 * (last - first)), variants)
        done.extend(found)

    budget.ranges(7, lambda: budget.variants(10), contexts, "contexts")
    assert sorted(done) == [(c, v) for c in range(7) for v in range(6)]


def test_what_cannot_be_made_smaller_is_explained() -> None:
    with pytest.raises(DoesNotFitError, match="out of memory"), memory_explained():
        raise RuntimeError(FULL)
    with pytest.raises(RuntimeError, match="shapes"), memory_explained():
        raise RuntimeError("shapes do not match")


#: Measures a little to have everything loaded; then again while the process may not grow by more than 4 MiB, than
#: 90 MiB, and freely. One variant of one context takes about 50 MiB at most, all at once about 150.
SCRIPT = """
import re, resource, sys, warnings
from pathlib import Path
import numpy as np, torch
import balmer
from conftest import VOCABULARY, make_model
from scale.config import ProbeConfig, SGLDConfig
from scale.errors import UserError

warnings.simplefilter("error")
torch.set_num_threads(1)
model = make_model("gpt_neox", intermediate_size=4096, num_hidden_layers=2, max_position_embeddings=256)
contexts = np.random.default_rng(0).integers(0, VOCABULARY, (6, 256))
sampler = SGLDConfig(step_size=1e-5, chains=2, burn_in=0, draws=2, steps_between_draws=1, batch_contexts=1)

def measure(tokens):
    return balmer.susceptibilities(
        model, tokens, ["l0h0", "l1 mlp", "unembed"], reference=tokens, sampler=sampler,
        probe=ProbeConfig(draws_per_document=4),
    )

def within(mebibytes):
    held = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + mebibytes * 2**20, before[1]))
    try:
        return measure(contexts)
    except UserError as error:
        print(f"balmer: {error}", file=sys.stderr)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        print(f"within {mebibytes}", file=sys.stderr)

measure(contexts[:1, :8])
assert within(4) is None
small, large = within(90), measure(contexts)
np.savez(sys.argv[1], small=small.chi, large=large.chi, llc=[small.llc, large.llc])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space of a process")
def test_a_process_that_may_not_grow_measures_the_same_in_smaller_steps_or_says_so(tmp_path: Path) -> None:
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests"))
    # The threshold has freed memory given back at once, so that only what is in use counts against the limit.
    own = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "found.npz")]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **own}, check=False)
    assert answer.returncode == 0, answer.stderr
    refused, rest = answer.stderr.split("within 4\n")
    finished, after = rest.split("within 90\n")
    *halved, last = refused.splitlines()
    assert last.startswith("balmer: model.device: out of memory with as little at once as possible; lower ")
    assert after == ""  # without a limit all fits
    assert 1 <= len(finished.splitlines()) <= 6
    for line in [*halved, *finished.splitlines()]:
        assert line.startswith("out of memory with "), line
        assert "at once; going on with " in line
    found = np.load(tmp_path / "found.npz")
    assert np.abs(found["small"]).max() > 1e-4
    # In other batch sizes float32 losses may be rounded otherwise, by about 1e-6 of a nat.
    assert np.allclose(found["small"], found["large"], rtol=0, atol=1e-3 * np.abs(found["large"]).max())
    assert np.allclose(*found["llc"], rtol=1e-3)


@pytest.mark.parametrize("failing", [{2}, {3, 4}, {2, 5, 6}, {5, 9}])
def test_mean_losses_count_nothing_twice_when_memory_runs_out(
    failing: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some evaluations fail, in the middle of contexts and variants that were partly done."""
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    component = select(language_model.model, language_model.architecture, ["l1h0"])[0]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCABULARY, (6, 10), generator=generator)
    offsets = 0.3 * torch.randn(5, size_of(component, language_model.parameters), generator=generator)
    tail, keys = Tail.at(language_model, tokens, 1), [ChainKey(component, chain) for chain in range(5)]
    expected = mean_losses(tail, keys, offsets, Budget(10**6))
    evaluate, calls = Tail.losses, list[int]()

    def losses(tail: Tail, stacks: Sequence[Stack]) -> torch.Tensor:
        calls.append(len(calls) + 1)
        if calls[-1] in failing:
            raise MemoryError
        return evaluate(tail, stacks)

    monkeypatch.setattr(Tail, "losses", losses)
    found = mean_losses(tail, keys, offsets, Budget(80))  # six contexts, one variant
    assert len(calls) > max(failing)
    assert np.allclose(found, expected, rtol=1e-6)
    assert np.ptp(expected) > 1e-3
