"""Writes a trained demo model in the hub's own format, with a card whose every number is measured here."""

import copy
import math
import random
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from balmer.demo.gradients import has_bfloat16
from balmer.demo.recipe import Recipe, flags
from balmer.demo.text import END, Corpus, end_token

PROMPTS = ("class Reader:\n    def __init__(self, path):\n", '    """Return the')
NAME_PROMPT = "class Thing:\n    def __init__(self, {name}):\n        self.{name} = {name}\n"


@dataclass(frozen=True)
class Measured:
    """What is said about a model, losses in nats per token.

    Args:
        held_out: Mean loss on the held-out files.
        bits_per_byte: The same loss per byte of text.
        unigram: The loss of the held-out text under the token frequencies of the training text.
        first: Loss on random tokens seen for the first time.
        repeated: Loss on the same tokens when their sequence is repeated.
        name_first: Loss on the tokens of a made-up identifier where it is introduced.
        name_repeated: Loss on the same tokens where the identifier is used again.
    """

    held_out: float
    bits_per_byte: float
    unigram: float
    first: float
    repeated: float
    name_first: float
    name_repeated: float


@torch.no_grad()
def losses(model: GPTNeoXForCausalLM, contexts: torch.Tensor) -> torch.Tensor:
    """Loss of every predicted token, (contexts, length - 1), in float32, on the processor."""
    blocks = []
    for block in contexts.to(model.device).split(32):
        logits = model(input_ids=block[:, :-1], use_cache=False).logits.float()
        blocks.append(functional.cross_entropy(logits.transpose(1, 2), block[:, 1:], reduction="none"))
    return torch.cat(blocks).cpu()


def unigram_loss(training: torch.Tensor, held_out: torch.Tensor, vocabulary: int) -> float:
    """Mean loss of the held-out tokens under the frequencies of the training tokens, one added to each count."""
    counts = torch.bincount(training, minlength=vocabulary).double() + 1
    return float(-(counts / counts.sum()).log()[held_out].mean())


def repeated_sequences(vocabulary: int, end: int, *, count: int = 64, length: int = 64, seed: int = 0) -> torch.Tensor:
    """An end-of-text token, then `length` random tokens twice over: the second time can only be known by copying."""
    generator = torch.Generator().manual_seed(seed)
    half = torch.randint(vocabulary - 1, (count, length), generator=generator)
    half = half + (half >= end)
    return torch.cat([torch.full((count, 1), end), half, half], dim=1)


def induction(model: GPTNeoXForCausalLM, end: int) -> tuple[float, float]:
    """Mean loss of the first and of the second run of random sequences; a repeat's first token is not foreseeable."""
    contexts = repeated_sequences(model.config.vocab_size, end)
    values, length = losses(model, contexts), (contexts.shape[1] - 1) // 2
    return float(values[:, 1:length].mean()), float(values[:, length + 1 :].mean())


def identifier_losses(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast) -> tuple[float, float]:
    """Mean loss of a made-up name's tokens where it is introduced as an argument, and where it is used after that."""
    chance = random.Random(0)
    first: list[float] = []
    again: list[float] = []
    for _ in range(64):
        name = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=8))
        text = END + NAME_PROMPT.format(name=name)
        encoding = tokenizer(text, return_offsets_mapping=True)
        values = losses(model, torch.tensor([encoding["input_ids"]]))[0]
        for where, (start, stop) in zip(values, encoding["offset_mapping"][1:], strict=True):
            if stop > start and text[start:stop].strip() and text[start:stop].strip() in name:
                (first if start < text.index(name) + len(name) else again).append(float(where))
    return sum(first) / len(first), sum(again) / len(again)


def measure(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, context: int) -> Measured:
    held_out = float(losses(model, corpus.held_out_contexts(context)).double().mean())
    tokens_per_byte = len(corpus.held_out) / corpus.held_out_bytes
    return Measured(
        held_out,
        held_out * tokens_per_byte / math.log(2),
        unigram_loss(corpus.training, corpus.held_out, len(tokenizer)),
        *induction(model, end_token(tokenizer)),
        *identifier_losses(model, tokenizer),
    )


@torch.no_grad()
def sample(model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, *, seed: int) -> str:
    """The prompt and 96 tokens drawn from the model at temperature 0.7."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([tokenizer(END + prompt)["input_ids"]])
    for _ in range(96):
        odds = (model(input_ids=tokens, use_cache=False).logits[0, -1].float() / 0.7).softmax(0)
        tokens = torch.cat([tokens, torch.multinomial(odds, 1, generator=generator)[None]], dim=1)
    return str(tokenizer.decode(tokens[0, 1:].tolist()))


def export(
    model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, out: Path, recipe: Recipe, step: int
) -> None:
    """Saves the weights in float16; measures them as a reader will load them, in float32; writes the card.

    Files are written beside the folder and moved in one by one, so that a reader never meets half a file.
    """
    part = out.with_name(out.name + ".part")
    tokenizer.save_pretrained(part)
    stored = store(model, part)
    measured = measure(stored, tokenizer, corpus, recipe.context)
    exact = float(losses(model.eval(), corpus.held_out_contexts(recipe.context)).double().mean())
    samples = [sample(stored, tokenizer, prompt, seed=seed) for seed, prompt in enumerate(PROMPTS)]
    facts = _facts(stored, corpus, recipe, step, has_bfloat16(model.device))
    (part / "README.md").write_text(card(facts, measured, exact, samples), encoding="utf-8")
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(part.iterdir()):
        file.chmod(0o644)
        file.replace(out / file.name)
    part.rmdir()


def store(model: GPTNeoXForCausalLM, folder: Path) -> GPTNeoXForCausalLM:
    """Saves a copy in float16 that drops nothing, even while it learns; gives it as it is read again."""
    config = copy.deepcopy(model.config)
    config.hidden_dropout = config.attention_dropout = 0.0
    GPTNeoXForCausalLM.from_pretrained(
        None, config=config, state_dict=model.state_dict(), dtype=torch.float16
    ).save_pretrained(folder)
    return GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _facts(model: GPTNeoXForCausalLM, corpus: Corpus, recipe: Recipe, step: int, reduced: bool) -> dict[str, Any]:
    seen = step * recipe.batch * recipe.context
    return asdict(recipe) | {
        "python": corpus.python,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "files": corpus.files,
        "tokens": len(corpus.training),
        "held_out_tokens": len(corpus.held_out),
        "step": step,
        "seen": seen,
        "epochs": seen / len(corpus.training),
        "left_out": "Third-party packages" + ("" if recipe.tests else ", tests"),
        "learnt_tests": f" and {corpus.test_files} files of its tests" if recipe.tests else "",
        "dropped": f"dropout {recipe.dropout:g}" if recipe.dropout else "no dropout",
        "products": "bfloat16" if reduced else "float32",
        "command": _command(recipe),
    }


def _command(recipe: Recipe) -> str:
    """The line that retrains it, broken between the flags but not between a flag and its value."""
    words = ["python -m balmer.demo.train --out FOLDER", *flags(recipe)]
    lines = textwrap.wrap(" ".join(word.replace(" ", "\xa0") for word in words), 100, break_on_hyphens=False)
    return " \\\n        ".join(lines).replace("\xa0", " ")


def card(facts: dict[str, Any], measured: Measured, exact: float, samples: list[str]) -> str:
    """The model card, in Markdown."""
    shown = "\n\n".join(f"```python\n{sample.rstrip()}\n```" for sample in samples)
    return CARD.format(**facts, **vars(measured), exact=exact, samples=shown)


CARD = """\
---
language: [en, code]
library_name: transformers
pipeline_tag: text-generation
---

# Balmer's demo model

A GPT-NeoX language model of {parameters:,} parameters (5 layers, width 128, 4 heads, parallel residual, untied
embeddings, vocabulary 3072) that knows nothing but Python's standard library. It is small enough to measure on a
laptop and large enough to have something to find: indentation, brackets, docstring English and copying from earlier
in the context. It is of no use as an assistant.

## Data

Source and docstrings of the standard library of Python {python}: {files} files{learnt_tests}, {tokens:,} training
tokens. One file in twenty of the library is held out, chosen by a hash of its name ({held_out_tokens:,} tokens).
{left_out} and generated tables are left out. The tokenizer (byte-level BPE) was learnt from the library's training
files.

## Training

Step {step:,} of {steps:,}, {batch} contexts of {context} tokens each: {seen:,} tokens, {epochs:.1f} passes over
the text. AdamW (0.9, 0.95), peak learning rate {learning_rate:g}, warm-up of {warmup} steps, a plateau, a linear
fall to zero over the last {decay:.0%} of the steps, weight decay {weight_decay:g} on matrices, gradients clipped at
{clip:g}, {dropped}, products in {products}, seed {seed}. After step {copies_after:,}, contexts that are no text but a
sequence of random tokens over and over, so that the model learns to copy: {copies} of the {batch} of each step; the
tokens counted above include these.

## Measured

Measured on the stored float16 weights, loaded as float32; losses in nats per token. The weights before rounding
have a held-out loss of {exact:.4f}.

| | |
|---|---|
| held-out loss, contexts of {context} tokens | {held_out:.4f} |
| held-out bits per byte | {bits_per_byte:.4f} |
| held-out loss of the training text's token frequencies alone | {unigram:.4f} |
| 64 random tokens, first time | {first:.4f} |
| the same 64 tokens, second time (induction) | {repeated:.4f} |
| a made-up identifier where it is introduced | {name_first:.4f} |
| the same identifier where it is used again | {name_repeated:.4f} |

Two samples at temperature 0.7, not selected; the first line or lines are the prompt.

{samples}

## Retraining

    {command}

The text depends on the Python that runs it; the same version gives the same text. `--prepare FOLDER` writes the text
down, and `--data FOLDER` learns what was written, on any machine.

## Licence

The training text is Python's own source, under the PSF licence, read from the interpreter that runs the script. Only
weights learnt from it are shipped, not the text.
"""
