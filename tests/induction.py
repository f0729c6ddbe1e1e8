"""A small model with planted heads, and the text it reads; ``python tests/induction.py`` makes it again.

Every context begins with the token 0. Half of the contexts repeat: random tokens, then a random segment, then the
segment again, no token twice but by repetition, so that there is nothing to look up before. The others name a topic and
then draw words as that topic has them, each on its own.

Three heads are written by hand and trained with everything else, which starts at random: one writes a code of the
token before, one looks up what followed the current token and copies it (Elhage et al. 2021), one reads the topic. In
the width of 64, the first 32 numbers name the token, 16 tell the position, 16 hold the code of the token before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

FOLDER = Path(__file__).parent / "scale" / "models" / "induction"
LENGTH, SHORTEST, LONGEST = 25, 8, 11  # tokens of a context, and of a segment
RANDOM, TOPICS, WORDS = slice(1, 20), slice(20, 24), slice(24, 32)  # the vocabulary, after the token 0
WIDTH, HEADS, SIZE = 64, 4, 16
TOKEN, PLACE, CODE = slice(0, 32), slice(32, 48), slice(48, 64)
PREVIOUS, COPYING, TOPICAL = (0, 0), (1, 0), (1, 1)  # layer and head

#: Share of copied tokens that are wrong in training. The model trusts copies accordingly: less than they deserve where
#: all are right. What is certain would respond to no small change.
FAULTS = 0.35
#: Size of the residual stream before any head: a small change of any other head is nothing beside it.
STREAM = 8.0
#: Size of the output matrices of the planted heads of layer 1. Their values are as much larger, so that a change of
#: their weights harms what they copy before it harms what passes by.
OUTPUT = 0.25


def repeated(count: int, generator: torch.Generator, faults: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts that end in two occurrences of a segment, and where the tokens of the second are, (count, `LENGTH`).

    The first token of the second occurrence, which nothing announces, is not among them. ``faults`` is the share of
    the others that are replaced.
    """
    shuffled = torch.rand(count, RANDOM.stop - 1, generator=generator).argsort(dim=1) + 1
    tokens = functional.pad(shuffled, (1, LENGTH - RANDOM.stop))
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count, 1), generator=generator)
    position = torch.arange(LENGTH)
    second = position >= LENGTH - lengths
    tokens = tokens.gather(1, torch.where(second, position - lengths, position))
    wrong = second & (torch.rand(tokens.shape, generator=generator) < faults)
    tokens[wrong] = torch.randint(1, RANDOM.stop, (int(wrong.sum()),), generator=generator)
    return tokens, position > LENGTH - lengths


def words_of_topics() -> torch.Tensor:
    """How often each topic has each word, (4, 8)."""
    return (2 * torch.randn(4, 8, generator=torch.Generator().manual_seed(1))).softmax(dim=1)


def topical(count: int, generator: torch.Generator) -> torch.Tensor:
    """Contexts that name a topic and draw its words."""
    topics = torch.randint(4, (count,), generator=generator)
    words = torch.multinomial(words_of_topics()[topics], LENGTH - 2, replacement=True, generator=generator)
    return functional.pad(torch.cat([TOPICS.start + topics[:, None], WORDS.start + words], dim=1), (1, 0))


def mixture(count: int, generator: torch.Generator, faults: float = 0.0) -> torch.Tensor:
    """As many contexts of either kind, in turns."""
    both = torch.stack([repeated(count // 2, generator, faults)[0], topical(count // 2, generator)], dim=1)
    return both.flatten(0, 1)


def random_model(seed: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=32, n_positions=LENGTH, n_embd=WIDTH, n_layer=2, n_head=HEADS, n_inner=16, tie_word_embeddings=False,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def block(place: slice, matrix: torch.Tensor) -> torch.Tensor:
    """(`WIDTH`, `SIZE`), zero but for the rows ``place``."""
    whole = torch.zeros(WIDTH, SIZE)
    whole[place, : matrix.shape[1]] = matrix
    return whole


def write_head(
    model: Any, head: tuple[int, int], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, output: torch.Tensor
) -> None:
    """Set a head's matrices, each (`WIDTH`, `SIZE`)."""
    attention = model.transformer.h[head[0]].attn
    for part, matrix in enumerate((query, key, value)):
        begin = part * WIDTH + head[1] * SIZE
        attention.c_attn.weight[:, begin : begin + SIZE] = matrix
    attention.c_proj.weight[head[1] * SIZE : (head[1] + 1) * SIZE] = output.T


def ask_always(model: Any, head: tuple[int, int], strength: float) -> None:
    """Queries of a head all have this in their last number, whatever the token."""
    model.transformer.h[head[0]].attn.c_attn.bias[head[1] * SIZE + SIZE - 1] = strength


@torch.no_grad()
def plant(model: Any) -> None:
    """Write token and position into the stream, and the three heads."""
    identity, layers = torch.eye(32), model.transformer
    frequencies = (2 * torch.arange(8) + 1) * torch.pi / 16
    angles = torch.arange(LENGTH)[:, None] * frequencies
    layers.wte.weight[:, TOKEN] += 2 * STREAM * identity
    layers.wpe.weight[:, PLACE] = STREAM * torch.cat([angles.cos(), angles.sin()], dim=1)
    model.lm_head.weight[:, TOKEN] += identity

    code = 1.5 * torch.linalg.qr(torch.randn(32, SIZE - 1))[0]
    code[0] = code[TOPICS] = code[WORDS] = 0  # only random tokens are looked up
    cos, sin = frequencies.cos().diag(), frequencies.sin().diag()
    turn = torch.cat([torch.cat([cos, -sin], dim=1), torch.cat([sin, cos], dim=1)])  # angles of p into those of p - 1
    here, before = block(PLACE, torch.eye(SIZE)), block(CODE, torch.eye(SIZE))
    write_head(model, PREVIOUS, block(PLACE, turn), here, block(TOKEN, STREAM * code), before)

    # Where there is nothing to look up, attention goes to the token 0, whose value is zero.
    key, value = 1.5 * before, block(TOKEN, 1.5 * STREAM / OUTPUT * code)
    key[0, -1] = 2.2
    ask_always(model, COPYING, 2.2)
    write_head(model, COPYING, block(TOKEN, 1.5 * code), key, value, OUTPUT * block(TOKEN, code))

    topics = words_of_topics()
    key, value, output = torch.zeros(WIDTH, SIZE), torch.zeros(WIDTH, SIZE), torch.zeros(WIDTH, SIZE)
    key[TOPICS, -1] = 4.4
    value[TOPICS, :4] = 1.5 * STREAM / OUTPUT * torch.eye(4)
    output[WORDS, :4] = 2 * OUTPUT * (topics - topics.mean(dim=0)).T
    ask_always(model, TOPICAL, 2.2)
    write_head(model, TOPICAL, torch.zeros(WIDTH, SIZE), key, value, output)


def token_losses(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(tokens, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")


def train(steps: int = 300, seed: int = 0, batch: int = 64, rate: float = 1e-3) -> Any:
    model, generator = random_model(seed), torch.Generator().manual_seed(seed)
    plant(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for step in range(1, steps + 1):
        loss = token_losses(model, mixture(batch, generator, FAULTS)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return model.eval()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train().save_pretrained(FOLDER)
