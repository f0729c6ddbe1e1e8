"""The demo's training: its batches, its schedule, and that a stopped training ends where an unbroken one ends."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from balmer.demo.batches import batch_at, examples_at
from balmer.demo.model_card import export, losses, repeated_sequences, unigram_loss
from balmer.demo.recipe import Recipe, Shape, decay_start, defaults, flags, learning_rate_at
from balmer.demo.text import END, Corpus
from balmer.demo.train import Training, model_config
from scale.errors import UserError

RECIPE = Recipe(steps=40, batch=4, context=16, warmup=4, learning_rate=3e-3)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = {END: 0} | {f"w{index}": index for index in range(1, 50)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token=END)), eos_token=END)


@pytest.fixture(scope="module")
def stream() -> torch.Tensor:
    return torch.randint(50, (1000,), generator=torch.Generator().manual_seed(1))


def advance(training: Training, stream: torch.Tensor, steps: int) -> list[float]:
    return [training.advance(stream).item() for _ in range(steps)]


def test_an_epoch_shows_every_token_at_most_once_and_nearly_all() -> None:
    numbers = torch.arange(1000)
    per_epoch = (1000 - 16) // 16 // 4
    seen = torch.cat([batch_at(numbers, RECIPE, step).flatten() for step in range(per_epoch)])
    assert len(seen.unique()) == len(seen) > 1000 - 7 * 16
    following = [batch_at(numbers, RECIPE, step)[:, 0] % 16 for step in (0, per_epoch, 2 * per_epoch)]
    assert len({int(offsets[0]) for offsets in following}) > 1
    assert all((offsets == offsets[0]).all() for offsets in following)


def test_batches_are_runs_of_the_text_and_follow_the_seed() -> None:
    numbers = torch.arange(1000)
    batch = batch_at(numbers, RECIPE, 3)
    assert batch.shape == (4, 16)
    assert (batch.diff(dim=1) == 1).all()
    assert torch.equal(batch, batch_at(numbers, RECIPE, 3))
    assert not torch.equal(batch, batch_at(numbers, replace(RECIPE, seed=1), 3))


def test_examples_before_the_copies_are_the_text_and_its_next_tokens(stream: torch.Tensor) -> None:
    contexts = batch_at(stream, RECIPE, 3)
    inputs, targets = examples_at(stream, RECIPE, 3, 50)
    assert torch.equal(inputs, contexts[:, :-1])
    assert torch.equal(targets, contexts[:, 1:])


def test_of_a_copy_only_what_copying_foretells_is_learnt(stream: torch.Tensor) -> None:
    recipe = replace(RECIPE, context=64, copies=2, copies_after=5)
    text = batch_at(stream, recipe, 4)
    assert torch.equal(examples_at(stream, recipe, 4, 3072)[0], text[:, :-1])
    periods = set()
    for step in range(5, 25):
        inputs, targets = examples_at(stream, recipe, step, 3072)
        assert torch.equal(inputs[:2], batch_at(stream, recipe, step)[:2, :-1])
        assert (targets[:2] >= 0).all()
        for row, wanted in zip(inputs[2:].tolist(), targets[2:].tolist(), strict=True):
            period = next(shift for shift in range(1, 63) if row[shift:] == row[:-shift])
            assert wanted[:period] == [-100] * period
            assert wanted[period:-1] == row[period + 1 :]
            assert wanted[-1] == row[63 - period]
            assert 0 not in row
            periods.add(period)
    assert len(periods) > 10


def test_the_rate_rises_rests_and_falls_to_zero() -> None:
    rates = [learning_rate_at(step, RECIPE) for step in range(RECIPE.steps)]
    assert rates[:4] == pytest.approx([0.00075, 0.0015, 0.00225, 0.003])
    assert set(rates[4 : decay_start(RECIPE) + 1]) == {0.003}
    assert torch.tensor(rates[decay_start(RECIPE) :]).diff().lt(0).all()
    assert 0 < rates[-1] < 0.003 / 10


def test_until_the_fall_the_rate_knows_nothing_of_the_end() -> None:
    longer = replace(RECIPE, steps=400)
    before = range(decay_start(RECIPE) + 1)
    assert [learning_rate_at(step, RECIPE) for step in before] == [learning_rate_at(step, longer) for step in before]


def test_training_learns_a_rule(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """In a text that counts up, the next word is certain; the frequencies of words say nothing."""
    values = advance(Training(RECIPE, tokenizer, tmp_path), torch.arange(2000) % 50, RECIPE.steps)
    assert values[0] > 3.5
    assert values[-1] < 1.5


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_stopped_training_ends_where_an_unbroken_one_ends(
    tokenizer: PreTrainedTokenizerFast, stream: torch.Tensor, tmp_path: Path, dropout: float
) -> None:
    recipe = replace(RECIPE, dropout=dropout)
    unbroken = Training(recipe, tokenizer, tmp_path)
    advance(unbroken, stream, 12)
    stopped = Training(replace(recipe, steps=30), tokenizer, tmp_path)
    advance(stopped, stream, 7)
    stopped.save()
    torch.manual_seed(99)
    resumed = Training(recipe, tokenizer, tmp_path)
    resumed.resume()
    assert resumed.step == 7
    advance(resumed, stream, 5)
    for ours, theirs in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(stopped.model.get_output_embeddings().weight, resumed.model.get_output_embeddings().weight)


def test_a_checkpoint_of_another_recipe_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    training = Training(RECIPE, tokenizer, tmp_path)
    training.step = decay_start(RECIPE) + 1
    training.save()
    Training(RECIPE, tokenizer, tmp_path).resume()
    for other in (replace(RECIPE, steps=41), replace(RECIPE, seed=1)):
        with pytest.raises(UserError, match="another recipe"):
            Training(other, tokenizer, tmp_path).resume()
    with pytest.raises(UserError, match="recipe or shape"):
        Training(RECIPE, tokenizer, tmp_path, shape=Shape(layers=2)).resume()


def test_what_is_dropped_while_learning_is_not_dropped_afterwards(
    tokenizer: PreTrainedTokenizerFast, stream: torch.Tensor, tmp_path: Path
) -> None:
    corpus = Corpus(stream, stream, 3000, 1, 0, "3.11")
    plain, dropping = (Training(replace(RECIPE, dropout=share), tokenizer, tmp_path) for share in (0.0, 0.3))
    assert dropping.glance(corpus) == plain.glance(corpus)
    assert advance(dropping, stream, 1) != advance(plain, stream, 1)


def test_silent_mlps_write_nothing_however_long_the_model_learns(
    tokenizer: PreTrainedTokenizerFast, stream: torch.Tensor, tmp_path: Path
) -> None:
    shape = Shape(layers=2, width=32, heads=2, mlp=8)
    heard, silent = (Training(RECIPE, tokenizer, tmp_path, shape=replace(shape, silent_mlps=s)) for s in (False, True))
    before = {name: value.clone() for name, value in silent.model.state_dict().items()}
    written: list[torch.Tensor] = []
    for block in silent.model.gpt_neox.layers:
        block.mlp.register_forward_hook(lambda module, inputs, output: written.append(output.detach()))
    advance(silent, stream, 5)
    assert len(written) == 10
    assert not any(output.any() for output in written)
    still = {name for name, value in silent.model.state_dict().items() if torch.equal(value, before[name])}
    assert {name for name in before if ".mlp." in name} <= still
    # A norm that only the MLP reads is still as well; all else has learnt.
    assert {name for name in still if ".mlp." not in name and "post_attention_layernorm" not in name} == set()
    assert advance(heard, stream, 1) != advance(Training(RECIPE, tokenizer, tmp_path, shape=silent.shape), stream, 1)


def test_a_model_has_the_shape_it_was_asked_for(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    config = Training(RECIPE, tokenizer, tmp_path, shape=Shape(layers=3, width=48, heads=6, mlp=40)).model.config
    found = config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size
    assert found == (3, 48, 6, 40)


def test_the_command_line_of_a_recipe_names_what_is_unusual() -> None:
    assert flags(Recipe(9)) == ["--steps 9"]
    assert flags(replace(Recipe(9), learning_rate=1e-4, tests=True)) == [
        "--steps 9",
        "--tests",
        "--learning-rate 0.0001",
    ]
    assert defaults() == {name: value for name, value in vars(Recipe(1)).items() if name != "steps"}


@pytest.mark.parametrize("name", ["steps", "batch", "context", "warmup"])
def test_nothing_can_be_trained_on_nothing(name: str) -> None:
    with pytest.raises(UserError, match=rf"^{name} must be at least 1, got 0$"):
        replace(RECIPE, **{name: 0})


def test_copies_leave_room_for_text() -> None:
    with pytest.raises(UserError, match=r"^copies must leave room for text in a batch of 4, got 4$"):
        replace(RECIPE, copies=4)


@pytest.mark.parametrize(("name", "share"), [("dropout", 1.1), ("decay", -0.1)])
def test_shares_are_shares(name: str, share: float) -> None:
    with pytest.raises(UserError, match=rf"^{name} must lie between 0 and 1, got {share}$"):
        replace(RECIPE, **{name: share})


def test_losses_are_those_of_the_next_token(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = Training(RECIPE, tokenizer, tmp_path).model.eval()
    contexts = repeated_sequences(50, 0, count=40, length=8)
    with torch.no_grad():
        logits = model(input_ids=contexts).logits
    expected = -logits.log_softmax(-1)[:, :-1].gather(2, contexts[:, 1:, None])[..., 0]
    torch.testing.assert_close(losses(model, contexts), expected, rtol=1e-4, atol=1e-5)


def test_repeated_sequences_repeat_and_leave_out_the_end_token() -> None:
    for end in (0, 7, 9):
        contexts = repeated_sequences(10, end, count=50, length=6)
        assert torch.equal(contexts[:, 1:7], contexts[:, 7:])
        assert set(contexts[:, 1:].flatten().tolist()) == set(range(10)) - {end}


def test_unigram_loss_is_the_entropy_where_nothing_is_unseen() -> None:
    tokens = torch.tensor([0] * 3000 + [1] * 1000)
    assert unigram_loss(tokens, tokens, 2) == pytest.approx(0.5623, abs=1e-3)


def test_what_is_exported_is_what_was_trained(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(__file__).parents[2] / "balmer" / "demo" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(3)
    stream = torch.randint(3072, (400,))
    training = Training(replace(RECIPE, steps=1, dropout=0.2), tokenizer, tmp_path / "work")
    corpus = Corpus(stream, stream, 1200, 1, 0, "3.11.7")
    export(training.model, tokenizer, corpus, tmp_path / "out", training.recipe, 1)
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    for (name, ours), theirs in zip(training.model.named_parameters(), stored.parameters(), strict=True):
        assert torch.equal(ours.half().float(), theirs), name
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == tokenizer.get_vocab()
    assert (stored.config.hidden_dropout, stored.config.attention_dropout) == (0.0, 0.0)
    card = (tmp_path / "out" / "README.md").read_text()
    for said in ("Step 1 of 1,", "library of Python 3.11.7", "dropout 0.2", "--learning-rate 0.003"):
        assert (said in card) == (said != "--learning-rate 0.003"), said
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out"]
    assert model_config(tokenizer, RECIPE, Shape()).vocab_size == 3072
