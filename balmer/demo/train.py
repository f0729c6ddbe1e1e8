"""Trains the demo's language model from nothing: `python -m balmer.demo.train --out FOLDER --minutes 45`.

A byte-level BPE tokenizer and a small GPT-NeoX model learn the source and docstrings of the running interpreter's
standard library. Every batch is a function of (seed, step), so a training that was stopped continues, from its last
checkpoint, on the batches it would have seen anyway.
"""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from balmer.demo.model_card import export
from balmer.demo.text import Corpus, end_token, load_corpus, train_tokenizer
from scale.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, up to floating point.

    Args:
        steps: Optimiser steps.
        batch: Contexts per step.
        context: Tokens per context.
        learning_rate: Peak of the schedule.
        warmup: Steps of linear warm-up, to the peak.
        decay: Share of the steps, the last ones, over which the learning rate falls linearly to zero.
        weight_decay: Decay of matrices; biases and norms have none.
        clip: Largest norm of the gradient.
        copies: Contexts of each batch that are no text but one random sequence of tokens over and over: only copying
            from earlier in the context can foretell them. They make sure that the model has something to copy with.
        copies_after: Steps before the first such context.
        seed: Decides the initial weights, the order of the text and the random sequences.
    """

    steps: int
    batch: int = 8
    context: int = 256
    learning_rate: float = 3e-3
    warmup: int = 150
    decay: float = 0.4
    weight_decay: float = 0.1
    clip: float = 1.0
    copies: int = 1
    copies_after: int = 1250
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "context"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.copies < self.batch:
            raise UserError(f"copies must leave room for text in a batch of {self.batch}, got {self.copies}")


def model_config(tokenizer: PreTrainedTokenizerFast) -> GPTNeoXConfig:
    """A Pythia in small: parallel residual, a quarter of each head rotary, untied embeddings."""
    end = end_token(tokenizer)
    return GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=5,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        use_parallel_residual=True,
        tie_word_embeddings=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )


def batch_at(tokens: torch.Tensor, recipe: Recipe, step: int) -> torch.Tensor:
    """The contexts of one step. Each epoch cuts the text at its own random offset and shuffles the pieces."""
    per_epoch = (len(tokens) - recipe.context) // recipe.context // recipe.batch
    epoch, index = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    offset = int(torch.randint(recipe.context, (), generator=generator))
    count = (len(tokens) - offset) // recipe.context
    chosen = torch.randperm(count, generator=generator)[index * recipe.batch : (index + 1) * recipe.batch]
    starts = offset + chosen * recipe.context
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


def token_loss(model: GPTNeoXForCausalLM, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean loss in nats over the targets; the products in bfloat16, the softmax in float32."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=inputs, use_cache=False).logits
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def new_optimizer(model: GPTNeoXForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)


def train_step(
    model: GPTNeoXForCausalLM, optimizer: torch.optim.AdamW, tokens: torch.Tensor, recipe: Recipe, step: int
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, recipe)
    loss = token_loss(model, *examples_at(tokens, recipe, step, model.config.vocab_size))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@torch.no_grad()
def held_out_glance(model: GPTNeoXForCausalLM, corpus: Corpus, recipe: Recipe) -> float:
    """Loss on 64 contexts spread evenly over the held-out text: cheap enough to print often."""
    contexts = corpus.held_out_contexts(recipe.context)
    spread = torch.linspace(0, len(contexts) - 1, min(64, len(contexts))).long()
    return token_loss(model, contexts[spread, :-1], contexts[spread, 1:]).item()


class Training:
    """The state of a training: the model, its optimiser and how many steps were done."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.tokenizer, self.folder = recipe, tokenizer, folder
        self.model = GPTNeoXForCausalLM(model_config(tokenizer))
        self.optimizer = new_optimizer(self.model, recipe)
        self.step = 0

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"step": self.step, "recipe": asdict(self.recipe), "model": self.model.state_dict()}
        torch.save(state | {"optimizer": self.optimizer.state_dict()}, self.folder / "checkpoint.part")
        (self.folder / "checkpoint.part").replace(self.folder / "checkpoint.pt")

    def resume(self) -> None:
        """Continues from the folder's checkpoint if there is one. Only the number of steps may differ (see above)."""
        file = self.folder / "checkpoint.pt"
        if not file.exists():
            return
        state = torch.load(file, weights_only=True)
        before = Recipe(**state["recipe"])
        same = replace(before, steps=self.recipe.steps) == self.recipe
        begun = state["step"] > min(decay_start(before), decay_start(self.recipe))
        if not same or (begun and before.steps != self.recipe.steps):
            raise UserError(f"--work {self.folder} holds a checkpoint of another recipe: remove it or choose another")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def run(training: Training, corpus: Corpus, out: Path, print_every: int, save_every: int) -> None:
    """Trains to the recipe's last step; checkpoints and exports the model on the way and at the end."""
    recipe, since, seen = training.recipe, time.perf_counter(), 0
    running = 0.0
    while training.step < recipe.steps:
        running += train_step(training.model, training.optimizer, corpus.training, recipe, training.step)
        training.step, seen = training.step + 1, seen + 1
        last = training.step == recipe.steps
        if training.step % print_every == 0 or last:
            rate = seen * recipe.batch * recipe.context / (time.perf_counter() - since)
            glance = held_out_glance(training.model, corpus, recipe)
            print(
                f"step {training.step} loss {running / seen:.4f} held-out {glance:.4f} tokens/s {rate:.0f}", flush=True
            )
            running, seen, since = 0.0, 0, time.perf_counter()
        if training.step % save_every == 0 or last:
            training.save()
            export(training.model, training.tokenizer, corpus, out, asdict(recipe), training.step)
            since, running, seen = time.perf_counter(), 0.0, 0


def steps_in(minutes: float, corpus: Corpus, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> int:
    """How many steps fit into so many minutes, at the pace of 20 trial steps after 5 for warming up."""
    trial = Training(recipe, tokenizer, Path())
    for step in range(25):
        if step == 5:
            since = time.perf_counter()
        train_step(trial.model, trial.optimizer, corpus.training, recipe, step)
    return max(1, int(minutes * 60 / ((time.perf_counter() - since) / 20)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m balmer.demo.train", description=__doc__.split("\n\n")[1])
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, in the hub's format")
    parser.add_argument("--work", type=Path, help="folder for the checkpoint (default: OUT with .training added)")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="optimiser steps")
    length.add_argument("--minutes", type=float, help="choose the steps that take about so long on this machine")
    parser.add_argument("--batch", type=int, default=Recipe.batch, help="contexts per step")
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--print-every", type=int, default=50, help="steps between progress lines")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    logging.disable_progress_bar()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    work = chosen.work or chosen.out.with_name(chosen.out.name + ".training")
    tokenizer = train_tokenizer()
    corpus = load_corpus(tokenizer)
    print(f"{corpus.files} files, {len(corpus.training)} tokens to learn, {len(corpus.held_out)} held out", flush=True)
    recipe = Recipe(chosen.steps or 1, chosen.batch, learning_rate=chosen.learning_rate, seed=chosen.seed)
    if chosen.minutes:
        steps = steps_in(chosen.minutes, corpus, recipe, tokenizer)
        recipe = replace(recipe, steps=steps)
    training = Training(recipe, tokenizer, work)
    training.resume()
    print(f"{sum(p.numel() for p in training.model.parameters())} parameters, {recipe}", flush=True)
    run(training, corpus, chosen.out, chosen.print_every, chosen.save_every)


if __name__ == "__main__":
    main()
