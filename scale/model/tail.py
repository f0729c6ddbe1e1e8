"""Token losses of a batch of variants, from the block where their weights begin to differ.

This is the one place where a model is evaluated at other weights than its own: sampling, probing, influence and the
library functions all come here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch

from scale.model.batches import Budget
from scale.model.forward import body, from_block, streams
from scale.model.language_model import LanguageModel
from scale.model.losses import mean_losses, token_losses
from scale.model.modules import Batch, batches_variants, perturbed, sites
from scale.model.still import held_still, trained_outputs, unmoved
from scale.model.unembedding import Unembedding
from scale.model.variants import Piece, Stack, full_values, pieces_of

#: Hidden states (variants, rows, width), targets (variants, rows) and an unembedding, to losses (variants, ...).
Losses = Callable[[torch.Tensor, torch.Tensor, Unembedding], torch.Tensor]


@dataclass(frozen=True)
class Inputs:
    """What variants are evaluated on.

    Args:
        tokens: Token ids (variants, contexts, T).
        hidden: What the first differing block reads, (variants, contexts, T, width); None if that is block 0.
        still: Outputs of modules of that block that are the same for all variants, (variants x contexts, ...).
    """

    tokens: torch.Tensor
    hidden: torch.Tensor | None
    still: Mapping[str, torch.Tensor]


def last_states(
    language_model: LanguageModel, start: int, inputs: Inputs, pieces: Mapping[str, list[Piece]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The last hidden states of every predicted token, (variants, rows, width), and the targets (variants, rows)."""
    variants, contexts, length = inputs.tokens.shape
    batch, flat = Batch(variants, contexts, length), inputs.tokens.reshape(variants * contexts, length)
    with ExitStack() as changes:
        changes.enter_context(perturbed(language_model.owners, pieces, batch, leave=language_model.output_module))
        changes.enter_context(held_still(language_model, inputs.still))
        if inputs.hidden is not None:
            changes.enter_context(from_block(language_model, start, inputs.hidden.flatten(0, 1)))
        states = body(language_model, flat)
    rows = states.view(variants, contexts, length, -1)[:, :, :-1]
    return rows.reshape(variants, contexts * (length - 1), -1), inputs.tokens[:, :, 1:].reshape(variants, -1)


def own_unembedding(language_model: LanguageModel, pieces: Mapping[str, list[Piece]], variant: int) -> Unembedding:
    """The unembedding of one variant."""
    shared, names = language_model.unembedding, language_model.unembedding_names
    weight, bias = (of_variant(pieces.get(name, []), variant) for name in names)
    return replace(
        shared,
        weight=full_values(shared.weight, weight)[0],
        bias=None if shared.bias is None else full_values(shared.bias, bias)[0],
    )


def of_variant(pieces: Sequence[Piece], variant: int) -> list[Piece]:
    return [
        Piece(0, 1, piece.where, piece.values[variant - piece.first : variant - piece.first + 1])
        for piece in pieces
        if piece.first <= variant < piece.last
    ]


def losses_of_tokens(rows: torch.Tensor, targets: torch.Tensor, unembedding: Unembedding) -> torch.Tensor:
    return token_losses(rows.flatten(0, 1), targets.flatten(), unembedding).view(targets.shape)


def can_share(language_model: LanguageModel, pieces: Mapping[str, list[Piece]]) -> bool:
    """Whether these variants can be in one batch: whether all modules that differ know how to tell them apart."""
    touched = sites(language_model.owners, pieces)
    return all(batches_variants(site.module) for site in touched if site.module is not language_model.output_module)


def each_alone(stacks: Sequence[Stack]) -> list[list[Stack]]:
    """Every variant as stacks of its own."""
    return [[Stack(stack.component, row[None])] for stack in stacks for row in stack.offsets]


class Tail:
    """Fixed contexts and what block ``start`` reads in them, computed once."""

    def __init__(
        self, language_model: LanguageModel, tokens: torch.Tensor, start: int, hidden: torch.Tensor | None
    ) -> None:
        assert (hidden is None) == (start == 0)
        self.language_model, self.tokens, self.start, self.hidden = language_model, tokens, start, hidden
        self.known: dict[str, torch.Tensor] = {}

    @classmethod
    def at(cls, language_model: LanguageModel, tokens: torch.Tensor, start: int, budget: Budget | None = None) -> Tail:
        return cls(language_model, tokens, start, streams(language_model, tokens, [start], budget)[start])

    def still(self, stacks: Sequence[Stack]) -> dict[str, torch.Tensor]:
        """Outputs, at the trained weights, of the modules of block ``start`` that the stacks cannot change."""
        names = unmoved(self.language_model, self.start, [stack.component for stack in stacks])
        missing = [name for name in names if name not in self.known]
        if missing:
            self.known |= trained_outputs(self.language_model, self.tokens, self.start, self.hidden, missing)
        return {name: self.known[name] for name in names}

    def evaluate(self, stacks: Sequence[Stack], index: torch.Tensor | None, losses: Losses) -> torch.Tensor:
        """``losses`` of all contexts, or those of ``index`` (variants, batch), in every variant: (variants, ...)."""
        variants = sum(len(stack.offsets) for stack in stacks) or 1
        pieces = pieces_of(stacks, self.language_model.parameters)
        if variants > 1 and not can_share(self.language_model, pieces):
            alone = each_alone(stacks)
            contexts = [None] * variants if index is None else list(index[:, None])
            return torch.cat([self.evaluate(one, some, losses) for one, some in zip(alone, contexts, strict=True)])

        def chosen(value: torch.Tensor) -> torch.Tensor:
            return value.repeat(variants, *[1] * value.ndim) if index is None else value[index]

        still = {name: chosen(value).flatten(0, 1) for name, value in self.still(stacks).items()}
        hidden = None if self.hidden is None else chosen(self.hidden)
        inputs = Inputs(chosen(self.tokens), hidden, still)
        rows, targets = last_states(self.language_model, self.start, inputs, pieces)
        if not any(name in pieces for name in self.language_model.unembedding_names):
            return losses(rows, targets, self.language_model.unembedding)
        own = [own_unembedding(self.language_model, pieces, variant) for variant in range(variants)]
        return torch.cat([losses(rows[v : v + 1], targets[v : v + 1], one) for v, one in enumerate(own)])

    @torch.no_grad()
    def losses(self, stacks: Sequence[Stack] = ()) -> torch.Tensor:
        """Loss in nats of every predicted token of all contexts in every variant, (variants, contexts, T - 1)."""
        found = self.evaluate(stacks, None, losses_of_tokens)
        return found.view(len(found), len(self.tokens), -1)

    def minibatch_means(self, index: torch.Tensor, stacks: Sequence[Stack]) -> torch.Tensor:
        """Mean loss of every variant on contexts of its own, ``index`` (variants, batch): (variants,).

        Differentiable in the offsets of the stacks.
        """
        return self.evaluate(stacks, index, mean_losses)

    def subset(self, index: torch.Tensor) -> Tail:
        """The same for some of the contexts."""
        hidden = None if self.hidden is None else self.hidden[index]
        found = Tail(self.language_model, self.tokens[index], self.start, hidden)
        found.known = {name: value[index] for name, value in self.known.items()}
        return found
