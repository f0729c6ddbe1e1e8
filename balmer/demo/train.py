"""Trains the demo's language model from nothing: `python -m balmer.demo.train --out FOLDER --minutes 45`.

A byte-level BPE tokenizer and a small GPT-NeoX model learn the source and docstrings of the running interpreter's
standard library. Every batch is a function of (seed, step), so a training that was stopped continues, from its last
checkpoint, on the batches it would have seen anyway. With `--prepare FOLDER` the text is only written down, for
another machine to learn from with `--data FOLDER`.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from balmer.demo.batches import examples_at
from balmer.demo.gradients import gradients, token_loss
from balmer.demo.model_card import export
from balmer.demo.recipe import Recipe, Shape, decay_start, defaults, learning_rate_at
from balmer.demo.text import Corpus, end_token, load_corpus, prepare, prepared, train_tokenizer
from scale.errors import UserError

DEMO = Shape()
#: Given the model, its tokenizer, the text, the folder, the recipe and the step, writes what has been learnt so far.
Publish = Callable[[GPTNeoXForCausalLM, PreTrainedTokenizerFast, Corpus, Path, Recipe, int], None]


def model_config(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, shape: Shape) -> GPTNeoXConfig:
    """A Pythia in small: parallel residual, a quarter of each head rotary, untied embeddings."""
    end = end_token(tokenizer)
    return GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.mlp,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        use_parallel_residual=True,
        tie_word_embeddings=False,
        hidden_dropout=recipe.dropout,
        attention_dropout=recipe.dropout,
        bos_token_id=end,
        eos_token_id=end,
    )


def new_model(config: GPTNeoXConfig, shape: Shape) -> GPTNeoXForCausalLM:
    model = GPTNeoXForCausalLM(config)
    if shape.silent_mlps:
        for name, parameter in model.named_parameters():
            if ".mlp." in name:
                torch.nn.init.zeros_(parameter).requires_grad_(False)
    return model


def new_optimizer(model: GPTNeoXForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    learnt = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learnt if p.ndim >= 2]
    vectors = [p for p in learnt if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)


class Training:
    """The state of a training: the model, its optimiser and how many steps were done."""

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: PreTrainedTokenizerFast,
        folder: Path,
        device: str | torch.device = "cpu",
        shape: Shape = DEMO,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.tokenizer, self.folder, self.shape = recipe, tokenizer, folder, shape
        self.model = new_model(model_config(tokenizer, recipe, shape), shape).to(device)  # type: ignore[arg-type]
        self.optimizer = new_optimizer(self.model, recipe)
        self.gradients = gradients(self.model, recipe.batch, recipe.context - 1)
        self.step = 0

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        """One step; gives its loss, without waiting for the device."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, recipe)
        # What is dropped is decided by the step, as the batch is.
        torch.manual_seed((recipe.seed + 2) * 1_000_003 + self.step)
        loss = self.gradients(*examples_at(tokens, recipe, self.step, self.model.config.vocab_size))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self.optimizer.step()
        self.step += 1
        return loss

    @torch.no_grad()
    def glance(self, corpus: Corpus) -> float:
        """Loss on 64 contexts spread evenly over the held-out text: cheap enough to print often."""
        contexts = corpus.held_out_contexts(self.recipe.context)
        spread = torch.linspace(0, len(contexts) - 1, min(64, len(contexts))).long()
        chosen = contexts[spread].to(self.model.device)
        return token_loss(self.model.eval(), chosen[:, :-1], chosen[:, 1:]).item()

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"step": self.step, "recipe": asdict(self.recipe), "shape": asdict(self.shape)}
        state |= {"model": self.model.state_dict()}
        torch.save(state | {"optimizer": self.optimizer.state_dict()}, self.folder / "checkpoint.part")
        (self.folder / "checkpoint.part").replace(self.folder / "checkpoint.pt")

    def resume(self) -> None:
        """Continues from the folder's checkpoint if there is one. Only the number of steps may differ (see above)."""
        file = self.folder / "checkpoint.pt"
        if not file.exists():
            return
        state = torch.load(file, weights_only=True, map_location=self.model.device)
        before = Recipe(**state["recipe"])
        # A checkpoint that names no shape is of the demo's.
        shape = Shape(**state.get("shape", {}))
        same = replace(before, steps=self.recipe.steps) == self.recipe and shape == self.shape
        begun = state["step"] > min(decay_start(before), decay_start(self.recipe))
        if not same or (begun and before.steps != self.recipe.steps):
            raise UserError(
                f"--work {self.folder} holds a checkpoint of another recipe or shape: remove it or choose another"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def run(
    training: Training, corpus: Corpus, out: Path, print_every: int, save_every: int, publish: Publish = export
) -> None:
    """Trains to the recipe's last step; checkpoints and publishes the model on the way and at the end."""
    recipe, since, losses = training.recipe, time.perf_counter(), []
    while training.step < recipe.steps:
        losses.append(training.advance(corpus.training))
        last = training.step == recipe.steps
        if training.step % print_every == 0 or last:
            loss = float(torch.stack(losses).mean())
            rate = len(losses) * recipe.batch * recipe.context / (time.perf_counter() - since)
            glance = training.glance(corpus)
            print(f"step {training.step} loss {loss:.4f} held-out {glance:.4f} tokens/s {rate:.0f}", flush=True)
            since, losses = time.perf_counter(), []
        if training.step % save_every == 0 or last:
            training.save()
            publish(training.model, training.tokenizer, corpus, out, recipe, training.step)
            since, losses = time.perf_counter(), []


def steps_in(minutes: float, corpus: Corpus, trial: Training) -> int:
    """How many steps fit into so many minutes, at the pace of 20 trial steps after 5 for warming up."""
    for _ in range(5):
        trial.advance(corpus.training).item()
    since = time.perf_counter()
    for _ in range(20):
        trial.advance(corpus.training).item()
    return max(1, int(minutes * 60 / ((time.perf_counter() - since) / 20)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m balmer.demo.train",
        description=f"{__doc__}\n{Recipe.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="folder for the model, in the hub's format")
    task.add_argument("--prepare", type=Path, metavar="FOLDER", help="only write the text and the tokenizer there")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="learn what --prepare wrote, not this library")
    parser.add_argument("--work", type=Path, help="folder for the checkpoint (default: OUT with .training added)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="optimiser steps")
    length.add_argument("--minutes", type=float, help="choose the steps that take about so long on this machine")
    for name, value in defaults().items():
        kind = {"action": "store_true"} if value is False else {"type": type(value), "default": value}
        parser.add_argument("--" + name.replace("_", "-"), help="default: %(default)s", **kind)
    parser.add_argument("--device", default="auto", help="auto (CUDA if there is one), cpu or cuda")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--print-every", type=int, default=50, help="steps between progress lines")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    chosen = parser.parse_args()
    if chosen.out and chosen.steps is None and chosen.minutes is None:
        parser.error("--out needs --steps or --minutes")
    return chosen


def device_named(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise UserError(f"--device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this torch sees no CUDA device; use --device cpu")
    return torch.device(name)


def train(chosen: argparse.Namespace) -> None:
    work = chosen.work or chosen.out.with_name(chosen.out.name + ".training")
    device = device_named(chosen.device)
    recipe = Recipe(1 if chosen.steps is None else chosen.steps, **{name: getattr(chosen, name) for name in defaults()})
    if chosen.data:
        tokenizer, corpus = prepared(chosen.data, tests=recipe.tests)
    else:
        tokenizer = train_tokenizer()
        corpus = load_corpus(tokenizer, tests=recipe.tests)
    print(f"{corpus.files} files, {len(corpus.training)} tokens to learn, {len(corpus.held_out)} held out", flush=True)
    if chosen.minutes:
        recipe = replace(recipe, steps=steps_in(chosen.minutes, corpus, Training(recipe, tokenizer, Path(), device)))
    training = Training(recipe, tokenizer, work, device)
    training.resume()
    print(f"{sum(p.numel() for p in training.model.parameters())} parameters, {recipe}, {device}", flush=True)
    run(training, corpus, chosen.out, chosen.print_every, chosen.save_every)


def main() -> None:
    chosen = arguments()
    logging.disable_progress_bar()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    try:
        prepare(chosen.prepare) if chosen.prepare else train(chosen)
    except UserError as error:
        print(f"balmer.demo.train: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
