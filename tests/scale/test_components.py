"""Which weights belong to which component."""

import pytest
import torch

from conftest import MODELS, VOCABULARY, make_model
from scale.components import Slots, all_components, full, select
from scale.errors import UserError
from scale.language_model import LanguageModel


@pytest.mark.parametrize("kind", MODELS)
def test_components_are_disjoint_and_together_leave_only_norms_and_shared_weights(kind: str) -> None:
    model = make_model(kind)
    architecture = LanguageModel.wrap(model).architecture
    taken = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for component in all_components(model, architecture):
        for piece in component.slices:
            Slots(model, component).view(piece, taken[piece.parameter]).add_(1)
    assert max(float(count.max()) for count in taken.values()) == 1
    left = {name for name, count in taken.items() if float(count.min()) == 0}
    shared = {"gpt_neox": ("norm", "attention.dense.bias"), "gpt2": ("ln_", "wpe", "attn.c_proj.bias")}
    allowed = shared.get(kind, ("norm", "k_proj", "v_proj"))
    assert all(any(part in name for part in allowed) for name in left), left


@pytest.mark.parametrize(
    ("kind", "output"), [("gpt_neox", "attention.dense"), ("gpt2", "attn.c_proj"), ("llama", "self_attn.o_proj")]
)
def test_a_head_changes_its_own_output_and_no_other(kind: str, output: str) -> None:
    """What enters the output projection is laid out head by head: only the perturbed head's part may move."""
    model = make_model(kind)
    language_model = LanguageModel.wrap(model)
    caught: list[torch.Tensor] = []
    projection = model.get_submodule(f"{language_model.architecture.block(1)}.{output}")
    projection.register_forward_pre_hook(lambda module, args: caught.append(args[0].clone()))
    tokens = torch.arange(12)[None] % VOCABULARY
    component = select(model, language_model.architecture, ["l1h1"])[0]
    slots = Slots(model, component)
    with torch.no_grad():
        model(tokens)
        slots.write(slots.read() + 0.5 * torch.randn(len(slots.read()), generator=torch.Generator().manual_seed(0)))
        model(tokens)
    size = caught[0].shape[-1] // language_model.architecture.heads
    moved = [(caught[0] - caught[1]).unflatten(-1, (-1, size))[..., h, :].abs().max() > 1e-4 for h in range(2)]
    assert moved == [False, True]


def test_reading_what_was_written() -> None:
    model = make_model("gpt2")
    for component in [*all_components(model, LanguageModel.wrap(model).architecture), full(model)]:
        slots = Slots(model, component)
        values = torch.randn(len(slots.read()), generator=torch.Generator().manual_seed(1))
        slots.write(values)
        assert torch.equal(slots.read(), values)


def test_groups_are_in_the_models_order_and_none_comes_twice() -> None:
    model = make_model("gpt_neox")
    architecture = LanguageModel.wrap(model).architecture
    names = [c.name for c in select(model, architecture, ["mlps", "l1h0", "all", "l1h0"])]
    assert names[:4] == ["embed", "l0h0", "l0h1", "l0 mlp"]
    assert names[-1] == "unembed"
    assert len(names) == len(set(names)) == 2 + 3 * 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [("l9h0", "out of range"), ("l0h2", "out of range"), ("l3 mlp", "out of range"), ("l0h", "not a component")],
)
def test_what_does_not_exist_is_said_with_what_does(name: str, reason: str) -> None:
    model = make_model("gpt_neox")
    with pytest.raises(
        UserError, match=rf"sgld.components: '{name}' is {reason}.*l0h0 to l2h1.*heads, mlps, all"
    ) as error:
        select(model, LanguageModel.wrap(model).architecture, [name])
    assert "\n" not in str(error.value)
