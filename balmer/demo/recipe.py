"""What decides a training of the demo model: its shape, its recipe, and how fast it learns at each step."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from scale.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, up to floating point.

    Args:
        steps: Optimiser steps.
        batch: Contexts per step.
        context: Tokens per context.
        tests: Learn the library's own tests too: twice as much text again, none of it held out.
        learning_rate: Peak of the schedule.
        warmup: Steps of linear warm-up, to the peak.
        decay: Share of the steps, the last ones, over which the learning rate falls linearly to zero.
        weight_decay: Decay of matrices; biases and norms have none.
        dropout: Share of activations and attention weights that are dropped while learning, never afterwards.
        clip: Largest norm of the gradient.
        copies: Contexts of each batch that are no text but one random sequence of tokens over and over: only copying
            from earlier in the context can foretell them. They make sure that the model has something to copy with.
        copies_after: Steps before the first such context.
        seed: Decides the initial weights, the order of the text, the random sequences and what is dropped.
    """

    steps: int
    batch: int = 8
    context: int = 256
    tests: bool = False
    learning_rate: float = 3e-3
    warmup: int = 150
    decay: float = 0.4
    weight_decay: float = 0.1
    dropout: float = 0.0
    clip: float = 1.0
    copies: int = 1
    copies_after: int = 1250
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "context", "warmup"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("decay", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.copies < self.batch:
            raise UserError(f"copies must leave room for text in a batch of {self.batch}, got {self.copies}")


@dataclass(frozen=True)
class Shape:
    """The size of the model; the defaults are the demo's.

    Args:
        layers: Blocks.
        width: Of the residual stream.
        heads: Attention heads in a block.
        mlp: Neurons in the MLP of a block.
        silent_mlps: All weights of the MLPs are zero, and are not learnt: what they write is zero.
    """

    layers: int = 5
    width: int = 128
    heads: int = 4
    mlp: int = 512
    silent_mlps: bool = False


def flags(recipe: Recipe) -> list[str]:
    """The command line's words for a recipe: the steps, and whatever is not as it would be without being named."""
    usual = asdict(Recipe(recipe.steps))
    changed = {name: value for name, value in asdict(recipe).items() if name == "steps" or value != usual[name]}
    return [_flag(name, value) for name, value in changed.items()]


def _flag(name: str, value: Any) -> str:
    words = "--" + name.replace("_", "-")
    return words if value is True else f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}"


def defaults() -> dict[str, Any]:
    """Every field but the steps, with its default."""
    return {field.name: field.default for field in fields(Recipe) if field.name != "steps"}


def decay_start(recipe: Recipe) -> int:
    return recipe.steps - max(1, int(recipe.decay * recipe.steps))


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up, a plateau, and a linear fall to zero.

    Until the fall begins, the schedule does not depend on the number of steps: a training may be resumed with another
    number of them, and is then the same as if that number had been given at first.
    """
    rise = (step + 1) / recipe.warmup
    fall = (recipe.steps - step) / (recipe.steps - decay_start(recipe))
    return recipe.learning_rate * min(1.0, rise, fall)
