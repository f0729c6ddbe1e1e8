"""Token losses of a batch of variants, from the block where their weights begin to differ.

This is the one place where a model is evaluated at other weights than its own: sampling, probing, influence and the
library functions all come here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from scale.forward import body, from_block, streams
from scale.language_model import LanguageModel
from scale.losses import mean_losses, token_losses
from scale.still import held_still, trained_outputs, unmoved
from scale.variants import Batch, Piece, Stack, full_values, perturbed, pieces_of


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
        leave = language_model.unembedding.module
        changes.enter_context(perturbed(language_model.model, pieces, batch, leave))
        changes.enter_context(held_still(language_model, inputs.still))
        if inputs.hidden is not None:
            changes.enter_context(from_block(language_model, start, inputs.hidden.flatten(0, 1)))
        states = body(language_model, flat)
    rows = states.view(variants, contexts, length, -1)[:, :, :-1]
    return rows.reshape(variants, contexts * (length - 1), -1), inputs.tokens[:, :, 1:].reshape(variants, -1)


def own_weight(pieces: Sequence[Piece], variant: int, shared: torch.Tensor) -> torch.Tensor:
    """The unembedding of one variant."""
    mine = [
        Piece(0, 1, piece.where, piece.values[variant - piece.first : variant - piece.first + 1])
        for piece in pieces
        if piece.first <= variant < piece.last
    ]
    return full_values(shared, mine)[0]


class Tail:
    """Fixed contexts and what block ``start`` reads in them, computed once."""

    def __init__(
        self, language_model: LanguageModel, tokens: torch.Tensor, start: int, hidden: torch.Tensor | None
    ) -> None:
        assert (hidden is None) == (start == 0)
        self.language_model, self.tokens, self.start, self.hidden = language_model, tokens, start, hidden
        self.known: dict[str, torch.Tensor] = {}

    @classmethod
    def at(cls, language_model: LanguageModel, tokens: torch.Tensor, start: int) -> Tail:
        return cls(language_model, tokens, start, streams(language_model, tokens, [start])[start])

    def still(self, stacks: Sequence[Stack]) -> dict[str, torch.Tensor]:
        """Outputs, at the trained weights, of the modules of block ``start`` that the stacks cannot change."""
        names = unmoved(self.language_model, self.start, [stack.component for stack in stacks])
        missing = [name for name in names if name not in self.known]
        if missing:
            self.known |= trained_outputs(self.language_model, self.tokens, self.start, self.hidden, missing)
        return {name: self.known[name] for name in names}

    def pieces(self, stacks: Sequence[Stack]) -> dict[str, list[Piece]]:
        return pieces_of(stacks, self.language_model.parameters)

    @torch.no_grad()
    def losses(self, stacks: Sequence[Stack] = ()) -> torch.Tensor:
        """Loss in nats of every predicted token of all contexts in every variant, (variants, contexts, T - 1)."""
        variants, unembedding = sum(len(stack.offsets) for stack in stacks) or 1, self.language_model.unembedding

        def repeated(value: torch.Tensor) -> torch.Tensor:
            return value.expand(variants, *value.shape)

        still = {name: repeated(value).flatten(0, 1) for name, value in self.still(stacks).items()}
        hidden = None if self.hidden is None else repeated(self.hidden)
        pieces = self.pieces(stacks)
        rows, targets = last_states(
            self.language_model, self.start, Inputs(repeated(self.tokens), hidden, still), pieces
        )
        own = pieces.get(self.language_model.architecture.unembedding, [])
        if own:
            found = torch.stack(
                [
                    token_losses(rows[v], targets[v], unembedding, own_weight(own, v, unembedding.weight))
                    for v in range(variants)
                ]
            )
        else:
            found = token_losses(rows.flatten(0, 1), targets.flatten(), unembedding)
        return found.view(variants, len(self.tokens), -1)

    def minibatch_means(self, index: torch.Tensor, stacks: Sequence[Stack]) -> torch.Tensor:
        """Mean loss of every variant on contexts of its own, ``index`` (variants, batch): (variants,).

        Differentiable in the offsets of the stacks.
        """
        unembedding = self.language_model.unembedding
        still = {name: value[index].flatten(0, 1) for name, value in self.still(stacks).items()}
        hidden = None if self.hidden is None else self.hidden[index]
        pieces = self.pieces(stacks)
        rows, targets = last_states(self.language_model, self.start, Inputs(self.tokens[index], hidden, still), pieces)
        own = pieces.get(self.language_model.architecture.unembedding, [])
        if not own:
            return mean_losses(rows, targets, unembedding)
        each = [
            mean_losses(rows[v : v + 1], targets[v : v + 1], unembedding, own_weight(own, v, unembedding.weight))
            for v in range(len(index))
        ]
        return torch.cat(each)

    def subset(self, index: torch.Tensor) -> Tail:
        """The same for some of the contexts."""
        hidden = None if self.hidden is None else self.hidden[index]
        found = Tail(self.language_model, self.tokens[index], self.start, hidden)
        found.known = {name: value[index] for name, value in self.known.items()}
        return found
