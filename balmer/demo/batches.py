"""What is learnt at each step of the demo's training: a function of (seed, step) alone, on every device."""

from functools import lru_cache

import torch

from balmer.demo.recipe import Recipe


@lru_cache(maxsize=2)
def epoch_starts(length: int, recipe: Recipe, epoch: int) -> torch.Tensor:
    """Where the contexts of an epoch begin. Each cuts the text at its own random offset and shuffles the pieces."""
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    offset = int(torch.randint(recipe.context, (), generator=generator))
    count = (length - offset) // recipe.context
    return offset + torch.randperm(count, generator=generator) * recipe.context


def batch_at(tokens: torch.Tensor, recipe: Recipe, step: int) -> torch.Tensor:
    """The contexts of one step."""
    per_epoch = (len(tokens) - recipe.context) // recipe.context // recipe.batch
    epoch, index = divmod(step, per_epoch)
    starts = epoch_starts(len(tokens), recipe, epoch)[index * recipe.batch : (index + 1) * recipe.batch]
    return tokens[starts[:, None] + torch.arange(recipe.context)]


def examples_at(tokens: torch.Tensor, recipe: Recipe, step: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The contexts of one step and their targets, the next tokens; a target of -100 is not learnt."""
    contexts = batch_at(tokens, recipe, step)
    targets = contexts[:, 1:].clone()
    generator = torch.Generator().manual_seed((recipe.seed + 1) * 1_000_003 + step)
    for row in range(recipe.batch - recipe.copies if step >= recipe.copies_after else recipe.batch, recipe.batch):
        period = int(torch.randint(recipe.context // 32, recipe.context // 2, (), generator=generator))
        # Token 0 ends a text and stands in no sequence.
        sequence = torch.randint(1, vocabulary, (period,), generator=generator)
        contexts[row] = sequence.repeat(recipe.context // period + 1)[: recipe.context]
        targets[row] = contexts[row, 1:]
        # The first round, and the token with which the second begins, cannot be foreseen.
        targets[row, :period] = -100
    return contexts[:, :-1], targets
