"""Trains the yardstick's further models: `python -m benchmarks.models wide --out FOLDER --minutes 90`.

They learn what the demo's model learns, by its recipe and with its tokenizer, and differ in their shape:

    wide             8 layers, 192 wide, 6 heads
    attention-only   4 layers, 128 wide, 4 heads. Its blocks have an MLP, for GPT-NeoX knows none without; all of its
                     weights are zero and are not learnt, so what it writes is exactly zero, in training and after. It
                     has one neuron, to cost nothing, and is no component of the yardstick.

A training that was stopped goes on from its last checkpoint. Models are written in the hub's format; none is shipped.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from balmer.demo import MODEL
from balmer.demo.model_card import measure, store
from balmer.demo.recipe import Recipe, Shape
from balmer.demo.text import Corpus, load_corpus
from balmer.demo.train import Training, device_named, run, steps_in
from scale.errors import UserError

SHAPES = {
    "wide": Shape(layers=8, width=192, heads=6, mlp=768),
    "attention-only": Shape(layers=4, width=128, heads=4, mlp=1, silent_mlps=True),
}


def publish(
    model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, out: Path, recipe: Recipe, step: int
) -> None:
    """The weights in float16, and beside them what decided them and what was measured of them as they are stored."""
    tokenizer.save_pretrained(out)
    measured = measure(store(model, out), tokenizer, corpus, recipe.context)
    facts = {"step": step, "tokens": len(corpus.training), "python": corpus.python, "recipe": asdict(recipe)}
    (out / "training.json").write_text(json.dumps(facts | {"measured": asdict(measured)}, indent=1), encoding="utf-8")


def train(chosen: argparse.Namespace) -> None:
    shape, device = SHAPES[chosen.model], device_named(chosen.device)
    recipe = Recipe(chosen.steps or 1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(MODEL)
    corpus = load_corpus(tokenizer, tests=recipe.tests)
    if chosen.minutes:
        trial = Training(recipe, tokenizer, Path(), device, shape)
        recipe = replace(recipe, steps=steps_in(chosen.minutes, corpus, trial))
    work = chosen.work or chosen.out.with_name(chosen.out.name + ".training")
    training = Training(recipe, tokenizer, work, device, shape)
    training.resume()
    learnt = sum(p.numel() for p in training.model.parameters() if p.requires_grad)
    print(f"{learnt} parameters to learn, {len(corpus.training)} tokens, {shape}, {recipe}, {device}", flush=True)
    run(training, corpus, chosen.out, chosen.print_every, chosen.save_every, publish)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=SHAPES)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--work", type=Path, help="folder for the checkpoint (default: OUT with .training added)")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="optimiser steps")
    length.add_argument("--minutes", type=float, help="choose the steps that take about so long on this machine")
    parser.add_argument("--device", default="auto", help="auto (CUDA if there is one), cpu or cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--print-every", type=int, default=50, help="steps between progress lines")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    chosen = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(chosen.threads)
    try:
        train(chosen)
    except UserError as error:
        print(f"benchmarks.models: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
