"""Token losses of a batch of variants, from the block where their weights begin to differ.

This is the one place where a model is evaluated at other weights than its own: sampling, probing, influence and the
library functions all come here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scale.batches import Budget
from scale.forward import body, from_block, streams
from scale.language_model import LanguageModel
from scale.losses import token_losses
from scale.variants import Batch, Piece, Stack, full_values, perturbed, pieces_of


def variant_losses(
    language_model: LanguageModel,
    tokens: torch.Tensor,
    start: int,
    hidden: torch.Tensor | None,
    stacks: Sequence[Stack] = (),
) -> torch.Tensor:
    """Loss in nats of every predicted token in every variant, (variants, contexts, T - 1).

    Args:
        language_model: The model; its own weights are left as they are.
        tokens: Token ids (variants, contexts, T).
        start: The first block that any of the stacks touches.
        hidden: What that block reads, (variants, contexts, T, width); None if ``start`` is 0.
        stacks: Whose weights differ and how; together as many variants as ``tokens`` has, or none.
    """
    variants, contexts, length = tokens.shape
    assert sum(len(stack.offsets) for stack in stacks) in (0, variants)
    pieces = pieces_of(stacks, language_model.parameters)
    batch = Batch(variants, contexts, length)
    flat = tokens.reshape(variants * contexts, length)
    with perturbed(language_model.model, pieces, batch, leave=language_model.unembedding.module):
        if start == 0:
            states = body(language_model, flat)
        else:
            assert hidden is not None
            with from_block(language_model, start, hidden.reshape(variants * contexts, length, -1)):
                states = body(language_model, flat)
    rows = states.view(variants, contexts, length, -1)[:, :, :-1].reshape(variants, contexts * (length - 1), -1)
    targets = tokens[:, :, 1:].reshape(variants, -1)
    return unembedded(language_model, rows, targets, pieces).view(variants, contexts, length - 1)


def unembedded(
    language_model: LanguageModel, rows: torch.Tensor, targets: torch.Tensor, pieces: dict[str, list[Piece]]
) -> torch.Tensor:
    """Losses (variants, rows) from the last hidden states, with every variant's own unembedding where it differs."""
    unembedding = language_model.unembedding
    own = pieces.get(language_model.architecture.unembedding, [])
    if not own:
        return token_losses(rows.flatten(0, 1), targets.flatten(), unembedding).view(targets.shape)
    found = []
    for variant in range(len(rows)):
        mine = [
            Piece(0, 1, piece.where, piece.values[variant - piece.first : variant - piece.first + 1])
            for piece in own
            if piece.first <= variant < piece.last
        ]
        weight = full_values(unembedding.weight, mine)[0]
        found.append(token_losses(rows[variant], targets[variant], unembedding, weight))
    return torch.stack(found)


class Tail:
    """Fixed contexts and what block ``start`` reads in them, computed once."""

    def __init__(
        self, language_model: LanguageModel, tokens: torch.Tensor, start: int, hidden: torch.Tensor | None
    ) -> None:
        assert (hidden is None) == (start == 0)
        self.language_model, self.tokens, self.start, self.hidden = language_model, tokens, start, hidden

    @classmethod
    def at(cls, language_model: LanguageModel, tokens: torch.Tensor, start: int, budget: Budget | None = None) -> Tail:
        return cls(language_model, tokens, start, streams(language_model, tokens, [start], budget)[start])

    def losses(self, stacks: Sequence[Stack] = ()) -> torch.Tensor:
        """All contexts in every variant: (variants, contexts, T - 1)."""
        variants = sum(len(stack.offsets) for stack in stacks) or 1
        tokens = self.tokens.expand(variants, *self.tokens.shape)
        hidden = None if self.hidden is None else self.hidden.expand(variants, *self.hidden.shape)
        return variant_losses(self.language_model, tokens, self.start, hidden, stacks)

    def minibatch_losses(self, index: torch.Tensor, stacks: Sequence[Stack]) -> torch.Tensor:
        """Every variant at contexts of its own: ``index`` (variants, batch) gives (variants, batch, T - 1)."""
        hidden = None if self.hidden is None else self.hidden[index]
        return variant_losses(self.language_model, self.tokens[index], self.start, hidden, stacks)

    def subset(self, index: torch.Tensor) -> Tail:
        """The same for some of the contexts."""
        hidden = None if self.hidden is None else self.hidden[index]
        return Tail(self.language_model, self.tokens[index], self.start, hidden)
