"""Parts of a block that a component in the same block cannot change: computed once, and repeated.

The attention of a block never reads its MLP. Where both read the same stream (GPT-NeoX, GPT-J, Phi, Falcon), the MLP
does not read the attention either. So while an MLP varies its block's attention stands still, and in such blocks while
a head varies the MLP does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from scale.model.batches import Budget
from scale.model.behaviour import first_of
from scale.model.components import Component
from scale.model.forward import Reached, body, from_block
from scale.model.language_model import LanguageModel


def inside(component: Component, modules: Sequence[str]) -> bool:
    """Whether all of a component's parameters are in some modules."""
    prefixes = tuple(f"{name}." for name in modules)
    return all(where.parameter.startswith(prefixes) for where in component.slices)


def unmoved(language_model: LanguageModel, start: int, components: Sequence[Component]) -> tuple[str, ...]:
    """Modules of block ``start`` whose outputs none of the components can change."""
    architecture = language_model.architecture
    if start >= architecture.layers or not components:
        return ()
    attention, mlp = architecture.attention_module(start), architecture.mlp_modules(start)
    if all(inside(component, mlp) for component in components):
        return (attention,)
    if language_model.behaviour.parallel and all(inside(component, (attention,)) for component in components):
        return mlp
    return ()


def trained_outputs(
    language_model: LanguageModel, tokens: torch.Tensor, start: int, hidden: torch.Tensor | None, names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Outputs of modules of block ``start`` at the trained weights, as many contexts at a time as the budget allows."""
    parts: list[dict[str, torch.Tensor]] = []

    def some(begin: int, end: int) -> None:
        below = None if hidden is None else hidden[begin:end]
        parts.append(outputs_within(language_model, tokens[begin:end], start, below, names))

    budget = Budget.of(tokens.device)
    budget.ranges(len(tokens), lambda: budget.variants(tokens.shape[1]), some, "contexts")
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def outputs_within(
    language_model: LanguageModel, tokens: torch.Tensor, start: int, hidden: torch.Tensor | None, names: Sequence[str]
) -> dict[str, torch.Tensor]:
    """The same for all contexts at once; nothing above the block is computed."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            found[name] = first_of(output).clone()  # the block may go on to add to it in place

        return hook

    def stop(*_: Any) -> None:
        raise Reached

    model = language_model.model
    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    hooks.append(model.get_submodule(language_model.architecture.block(start)).register_forward_hook(stop))
    try:
        with torch.no_grad():
            if hidden is None:
                body(language_model, tokens)
            else:
                with from_block(language_model, start, hidden):
                    body(language_model, tokens)
    except Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextmanager
def held_still(language_model: LanguageModel, outputs: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Within, the named modules give these outputs whatever they are given."""
    modules = {name: language_model.model.get_submodule(name) for name in outputs}
    tuples = language_model.behaviour.tuples
    for name, module in modules.items():
        value = outputs[name]
        shape = tuples.get(name)
        given: Any = value if shape is None else type(shape)([value, *shape[1:]])
        module.__dict__["forward"] = lambda *args, given=given, **kwargs: given
    try:
        yield
    finally:
        for module in modules.values():
            del module.__dict__["forward"]
