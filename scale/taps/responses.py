"""First-order responses of token losses to a step of each component, along the token's own column.

    r_C(t) = -Σ_l δ_(l+1)(t) · D_v̄ h_(l+1)(t - 1)

where D_v̄ is the derivative of what block l gives, along the component's mean direction v̄
(`scale.taps.mean_directions`), and δ the gradient of the token's loss along its own column (`scale.taps.columns`). Were
all of the way from the block to the loss in the column, -v̄ᵀ∇l_t would be exact, which is what a susceptibility is to
first order; what is left out goes through other positions' keys and values. Every block is evaluated by itself, at two
points for each of its components: all components together cost some forward passes.

Through all of the model, r_C(t) = -δ_top(t - 1) · D_v̄ h_top(t - 1) leaves nothing out of first order. It takes two
passes from the component's block to the top for every component; nothing is unembedded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from scale.model.batches import Budget
from scale.model.components import Component
from scale.model.forward import from_block, residual_stream
from scale.model.language_model import LanguageModel
from scale.model.modules import Batch, perturbed
from scale.model.still import held_still, trained_outputs, unmoved
from scale.model.tail import Tail, can_share
from scale.model.variants import Stack, pieces_of
from scale.taps.columns import Columns

#: Where something happens to the stream: before the first block, in block 0, 1, ..., or after the last.
BELOW = -1
#: How far a response is followed: along the token's own column, block by block, or through the model.
Reach = Literal["column", "model"]
#: Length of the steps of central differences, in standard deviations of one weight under the prior.
STEP = 0.3


@dataclass(frozen=True)
class Direction:
    """The mean direction of one component, (parameters,)."""

    component: Component
    values: torch.Tensor

    @property
    def length(self) -> float:
        return float(torch.linalg.vector_norm(self.values.double()))

    def both_sides(self, step: float) -> Stack:
        """The component moved by ``step`` along the direction, and against it."""
        unit = self.values * (step / self.length if self.length else 0.0)
        return Stack(self.component, torch.stack([unit, -unit]))


def places(language_model: LanguageModel, component: Component) -> set[int]:
    """Where a component acts by itself."""
    found: set[int] = set()
    architecture = language_model.architecture
    for where in component.slices:
        layer = architecture.layer_of(where.parameter)
        if layer is not None:
            found.add(layer)
            continue
        if where.parameter not in language_model.unembedding_names or architecture.tied:
            found.add(BELOW)
        if where.parameter != architecture.embedding or architecture.tied:
            found.add(architecture.layers)
    return found


def begins(language_model: LanguageModel, component: Component, reach: Reach) -> set[int]:
    """Where the stream is to be followed from: the places it acts at, or the first of them and the unembedding."""
    found = places(language_model, component)
    top = language_model.architecture.layers
    return found if reach == "column" else {min(found), *(found & {top})}


def alike(
    language_model: LanguageModel, place: int, directions: Sequence[Direction], reach: Reach = "column"
) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """Those that are followed from a place, by which of its modules they leave as they are."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, direction in enumerate(directions):
        if place in begins(language_model, direction.component, reach):
            still = () if place == BELOW else unmoved(language_model, place, [direction.component])
            groups.setdefault(still, []).append(index)
    yield from groups.items()


def outputs(
    language_model: LanguageModel,
    tokens: torch.Tensor,
    place: int,
    hidden: torch.Tensor | None,
    still: Mapping[str, torch.Tensor],
    stacks: Sequence[Stack],
    layer: int,
) -> torch.Tensor:
    """What block ``layer`` reads in every variant, (variants, contexts, T, width), from block ``place`` on."""
    pieces = pieces_of(stacks, language_model.parameters)
    variants, (contexts, length) = sum(len(stack.offsets) for stack in stacks), tokens.shape
    if variants > 1 and not can_share(language_model, pieces):
        alone = [Stack(stack.component, row[None]) for stack in stacks for row in stack.offsets]
        return torch.cat([outputs(language_model, tokens, place, hidden, still, [one], layer) for one in alone])
    batch, repeated = Batch(variants, contexts, length), tokens.repeat(variants, 1)
    held = {name: value.repeat(variants, *[1] * (value.ndim - 1)) for name, value in still.items()}
    with perturbed(language_model.owners, pieces, batch, leave=language_model.output_module):
        if hidden is None:
            found = residual_stream(language_model, repeated, [layer])[0]
        else:
            with held_still(language_model, held), from_block(language_model, place, hidden.repeat(variants, 1, 1)):
                found = residual_stream(language_model, repeated, [layer])[0]
    return found.view(variants, contexts, length, -1)


@torch.no_grad()
def responses(
    language_model: LanguageModel,
    tokens: torch.Tensor,
    columns: Columns,
    directions: Sequence[Direction],
    step: float,
    budget: Budget,
    reach: Reach = "column",
) -> torch.Tensor:
    """r (contexts, T - 1, components), float32; ``columns`` of every block and of the top."""
    depth = language_model.architecture.layers
    found = torch.zeros(*columns.slopes.shape[:2], len(directions), device=tokens.device)
    for place in range(BELOW, depth):
        hidden = None if place == BELOW else columns.streams[place]
        layer = place + 1 if reach == "column" else depth
        gradient = columns.gradients[layer].float()
        for names, members in alike(language_model, place, directions, reach):
            still = trained_outputs(language_model, tokens, place, hidden, names) if names else {}

            def some(
                begin: int,
                end: int,
                members: list[int] = members,
                place: int = place,
                layer: int = layer,
                hidden: torch.Tensor | None = hidden,
                still: Mapping[str, torch.Tensor] = still,
                gradient: torch.Tensor = gradient,
            ) -> None:
                chosen = members[begin:end]
                stacks = [directions[index].both_sides(step) for index in chosen]
                states = outputs(language_model, tokens, place, hidden, still, stacks, layer).float()
                slopes = (states[0::2] - states[1::2])[:, :, :-1] / (2 * step)
                found[..., chosen] += torch.einsum("kctd,ctd->ctk", slopes, gradient)

            budget.ranges(len(members), lambda: budget.variants(2 * tokens.numel()), some, "components")
    for _, members in alike(language_model, depth, directions):
        tail = Tail(language_model, tokens, depth, columns.streams[depth])
        for index in members:
            losses = tail.losses([directions[index].both_sides(step)])
            found[..., index] += (losses[0] - losses[1]) / (2 * step)
    lengths = torch.tensor([direction.length for direction in directions], device=found.device)
    return -found * lengths
