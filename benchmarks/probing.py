"""What the cached prefix saves: the same token losses through tails and through plain full forwards, in one run.

    python -m benchmarks.probing [--contexts 2] [--draws 8] [--repeats 3]

Shape: the demo model, every component, ``draws`` perturbations each. Prints token·component·draw per CPU second of both
ways, the median and range of the paired ratios, and the largest difference between the losses. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from balmer.demo import MODEL
from scale.chains import Perturbed
from scale.components import Component, all_components
from scale.config import ModelConfig
from scale.forward import Tail
from scale.language_model import LanguageModel, load_language_model

SPREAD = 0.05
Losses = Callable[[Component], torch.Tensor]


def through_tail(language_model: LanguageModel, tokens: torch.Tensor) -> Losses:
    """As `scale.probe` does it: one prefix per layer, shared by its components and draws."""
    tails: dict[int, Tail] = {}

    def losses(component: Component) -> torch.Tensor:
        if component.start not in tails:
            tails[component.start] = Tail(language_model, tokens, component.start)
        return tails[component.start].losses()

    return losses


def through_everything(language_model: LanguageModel, tokens: torch.Tensor) -> Losses:
    """What one would write first: the model, the logits, cross entropy."""

    def losses(component: Component) -> torch.Tensor:
        logits = language_model.model(tokens, use_cache=False).logits[:, :-1]
        found = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        return found.view(len(tokens), -1)

    return losses


def measure(
    way: Callable[[LanguageModel, torch.Tensor], Losses],
    language_model: LanguageModel,
    tokens: torch.Tensor,
    draws: int,
) -> tuple[float, torch.Tensor]:
    """CPU seconds for all components and draws, and the losses (components x draws, contexts, T - 1)."""
    found, generator = [], np.random.default_rng(0)
    started = time.process_time()
    losses = way(language_model, tokens)
    for component in all_components(language_model.model, language_model.architecture):
        with Perturbed(language_model, component) as weights, torch.no_grad():
            for _ in range(draws):
                weights.set_offset(SPREAD * generator.standard_normal(len(weights.trained), dtype=np.float32))
                found.append(losses(component))
    return time.process_time() - started, torch.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the cached prefix saves.")
    parser.add_argument("--contexts", type=int, default=2)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    language_model = load_language_model(ModelConfig(path=str(MODEL), device="cpu"))
    size = language_model.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    tokens = torch.from_numpy(np.random.default_rng(1).integers(0, size, (options.contexts, 128)))
    work = (
        tokens.shape[0] * 127 * options.draws * len(all_components(language_model.model, language_model.architecture))
    )
    measure(through_tail, language_model, tokens, 1)  # warm up
    pairs, gap = [], 0.0
    for _ in range(options.repeats):
        seconds, losses = measure(through_tail, language_model, tokens, options.draws)
        plain_seconds, plain = measure(through_everything, language_model, tokens, options.draws)
        pairs.append((seconds, plain_seconds))
        gap = max(gap, float((losses - plain).abs().max()))
    for name, index in (("tails", 0), ("full forwards", 1)):
        rate = work / statistics.median(pair[index] for pair in pairs)
        print(f"{name:<14} {rate:>9,.0f} token·component·draw per CPU s")
    ratios = sorted(plain / tail for tail, plain in pairs)
    spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {options.repeats} pairs)"
    print(f"{'ratio':<14} {statistics.median(ratios):>9.2f} {spread}")
    print(f"{'difference':<14} {gap:>9.1e} nats at most")


if __name__ == "__main__":
    main()
