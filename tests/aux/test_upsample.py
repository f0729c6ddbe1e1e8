"""Upsampling: what a plain forward pass and the auxiliary model give by hand, however it is cut up."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars
import pytest
import torch

import aux.upsample
from aux.config import UpsampleConfig
from aux.model import AuxModel, AuxShape
from aux.predictor import Predictor
from aux.upsample import make, predict, resolved
from conftest import VOCABULARY, make_model
from scale.config import CorpusConfig, ModelConfig
from scale.corpus import stage as corpus
from scale.draws.chosen import component_named
from scale.engine import LocalEngine, Workspace
from scale.errors import UserError
from scale.model import forward
from scale.model.batches import Budget
from scale.model.components import Slots
from scale.model.language_model import LanguageModel
from scale.progress import Silent
from scale.store import Manifest, Shards, read_array, read_table, write_manifest
from scale.taps.responses import Direction
from scale.taps.stage import Taps, tapped

LAYERS = (1, 2)
TAPS = Taps(LAYERS)
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (6, 12)).astype(np.int32)


def auxiliary() -> AuxModel:
    model = AuxModel(AuxShape(len(LAYERS) * 32, 48, 5))
    generator = torch.Generator().manual_seed(3)
    for name in ("input", "target"):
        getattr(model, f"{name}_mean").normal_(0.0, 1.0, generator=generator)
        getattr(model, f"{name}_scale").uniform_(0.5, 2.0, generator=generator)
    return model


def by_hand(model: torch.nn.Module, predictor: AuxModel, tokens: np.ndarray) -> np.ndarray:
    """From a full forward pass that returns every hidden state."""
    with torch.no_grad():
        states = model(torch.from_numpy(tokens).long(), output_hidden_states=True).hidden_states
        inputs = torch.cat([states[layer][:, 1:].flatten(0, 1) for layer in LAYERS], dim=1)
        found: np.ndarray = predictor(inputs).numpy()
    return found


def predicted(language_model: LanguageModel, tokens: np.ndarray, **options: object) -> np.ndarray:
    predictor = Predictor(auxiliary(), torch.device("cpu"))
    return predict(language_model, predictor, tokens, TAPS, (), Budget(4096), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2", "llama"])
def test_coordinates_are_those_of_a_full_forward_pass(kind: str) -> None:
    model = make_model(kind)
    expected = by_hand(model, auxiliary(), TOKENS)
    found = predicted(LanguageModel.wrap(model), TOKENS)
    assert np.allclose(found, expected, atol=1e-4)
    assert expected.std(axis=0).min() > 1e-2
    other = predicted(LanguageModel.wrap(make_model(kind, seed=1)), TOKENS)
    assert not np.allclose(other, expected, atol=1e-2)


@pytest.mark.parametrize("batch", [1, 4, 6])
def test_the_company_a_context_keeps_changes_nothing(batch: int) -> None:
    """Alone, in batches of several sizes, and in another order."""
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    whole = predicted(language_model, TOKENS).reshape(6, 11, -1)
    assert np.allclose(predicted(language_model, TOKENS, batch=batch).reshape(whole.shape), whole, atol=1e-5)
    order = np.array([3, 0, 5, 1, 4, 2])
    assert np.allclose(
        predicted(language_model, TOKENS[order], batch=batch).reshape(whole.shape), whole[order], atol=1e-5
    )


def test_nothing_after_the_last_tap_is_computed() -> None:
    """Taps 1 and 2 of 3 blocks; with a tap one higher, the uppermost block is."""
    model = make_model("gpt_neox")
    expected = by_hand(model, auxiliary(), TOKENS)
    language_model = LanguageModel.wrap(model)
    calls = []
    watched = {"block": model.gpt_neox.layers[2], "norm": model.gpt_neox.final_layer_norm, "logits": model.lm_head}
    for name, module in watched.items():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    assert np.allclose(predicted(language_model, TOKENS), expected, atol=1e-4)
    assert calls == []
    forward.residual_stream(language_model, torch.from_numpy(TOKENS).long(), [1, 3])
    assert calls == ["block"]


def test_bfloat16_is_near_and_not_the_same() -> None:
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    plain, rounded = predicted(language_model, TOKENS), predicted(language_model, TOKENS, bfloat16=True)
    error = np.abs(rounded - plain).max() / plain.std()
    assert 1e-4 < error < 0.2


def test_a_processor_keeps_the_models_precision_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelConfig(path="m", device="cpu", dtype="bfloat16")
    whole = replace(model, dtype="float32")
    assert resolved(model, UpsampleConfig(), TAPS) == (model, False)
    assert resolved(model, UpsampleConfig(precision="float32"), TAPS) == (whole, False)
    assert resolved(model, UpsampleConfig(precision="bfloat16"), TAPS) == (model, True)
    monkeypatch.setattr(aux.upsample, "native_bfloat16", lambda device: True)
    assert resolved(model, UpsampleConfig(), TAPS) == (model, True)
    assert resolved(model, UpsampleConfig(precision="float32"), TAPS) == (whole, False)


@pytest.mark.parametrize("taps", [Taps(LAYERS, gradients=True), Taps(LAYERS, responses=("l0h0",))])
def test_differences_of_passes_are_not_taken_in_bfloat16(taps: Taps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aux.upsample, "native_bfloat16", lambda device: True)
    model = ModelConfig(path="m", device="cpu")
    assert resolved(model, UpsampleConfig(), taps) == (model, False)
    with pytest.raises(UserError, match=r"^upsample\.precision: bfloat16 is for activations alone"):
        resolved(model, UpsampleConfig(precision="bfloat16"), taps)


def test_gradients_and_responses_go_into_the_predictor_as_the_taps_stage_writes_them() -> None:
    """Another path to the same numbers: rows as they are stored, through the auxiliary model by itself."""
    language_model = LanguageModel.wrap(make_model("gpt_neox"))
    parts = [component_named(language_model, name) for name in ("l0h1", "l2 mlp")]
    sizes = [sum(Slots(language_model.model, part).sizes) for part in parts]
    generator = torch.Generator().manual_seed(0)
    directions = [
        Direction(part, torch.randn(size, generator=generator)) for part, size in zip(parts, sizes, strict=True)
    ]
    taps = Taps(LAYERS, True, tuple(part.name for part in parts), 0.01)
    model = AuxModel(AuxShape(taps.columns(32), 24, 4))
    stored = tapped(language_model, TOKENS, taps, directions, Budget(4096))
    model.input_mean.copy_(torch.from_numpy(stored.mean(axis=0)))
    model.input_scale.copy_(torch.from_numpy(stored.std(axis=0)) + 1e-12)
    with torch.no_grad():
        expected = model(torch.from_numpy(stored)).numpy()
    predictor = Predictor(model, torch.device("cpu"))
    found = predict(language_model, predictor, TOKENS, taps, directions, Budget(4096), batch=4)
    assert expected.std(axis=0).min() > 0.1
    assert np.allclose(found, expected, atol=1e-2)


Stage = Callable[..., Path]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, text_folder: Path) -> Stage:
    """Makes `upsampled` into a folder, from a corpus of 15 heldout and 40 upsample contexts."""
    place, model = tmp_path_factory.mktemp("upsampling"), ModelConfig(path=str(model_folder), device="cpu")
    inputs = {name: place / name for name in ("corpus", "taps", "aux")}
    for folder in inputs.values():
        folder.mkdir()
    text = CorpusConfig(
        path=str(text_folder), context_length=24, contexts_per_document=3,
        truth_contexts=10, heldout_contexts=15, upsample_contexts=40,
    )  # fmt: skip
    corpus.make(Workspace(inputs["corpus"], {}, LocalEngine(), Silent()), model, text)
    write_manifest(inputs["taps"], Manifest("taps", {}, {}, asdict(TAPS)))
    auxiliary().save(inputs["aux"])

    def made(folder: Path, workers: int = 1, **settings: object) -> Path:
        folder.mkdir(exist_ok=True)
        work = Workspace(folder, inputs, LocalEngine(workers), Silent())
        facts = make(work, model, UpsampleConfig(**settings))  # type: ignore[arg-type]
        assert facts == {"rows": 55 * 23, "precision": "float32"}
        return folder

    made.corpus = inputs["corpus"]  # type: ignore[attr-defined]
    return made


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_row_of_coordinates_is_that_of_the_row_in_the_table(stage: Stage, tmp_path: Path) -> None:
    """Contexts interleave the splits on disk; rows are by split."""
    folder = stage(tmp_path / "one", contexts_per_shard=8)
    rows, found = read_table(folder / "rows.parquet"), Shards(folder).stack("coordinates")
    assert len(found) == len(rows) == 55 * 23
    assert rows["row"].to_list() == list(range(len(rows)))
    assert rows["split"].to_list() == ["heldout"] * 15 * 23 + ["upsample"] * 40 * 23
    tokens = read_array(stage.corpus / "tokens.npy")  # type: ignore[attr-defined]
    assert np.array_equal(tokens[rows["context"], rows["position"]], rows["token"])
    model = make_model("gpt_neox")
    for context in rows["context"].unique()[::7].to_list():
        own = (rows["context"] == context).to_numpy()
        assert rows.filter(polars.Series(own))["position"].to_list() == list(range(1, 24))
        assert np.allclose(found[own], by_hand(model, auxiliary(), np.array(tokens[context])[None]), atol=1e-4)


def test_shards_batches_and_workers_change_nothing_beyond_rounding(stage: Stage, tmp_path: Path) -> None:
    whole = stage(tmp_path / "whole", contexts_per_shard=1000)
    assert len(Shards(whole).names) == 2  # a shard holds one split
    expected = Shards(whole).stack("coordinates")
    cut = stage(tmp_path / "cut", contexts_per_shard=7, batch_contexts=3)
    assert len(Shards(cut).names) == 3 + 6
    assert np.allclose(Shards(cut).stack("coordinates"), expected, atol=1e-5)
    assert (cut / "rows.parquet").read_bytes() == (whole / "rows.parquet").read_bytes()
    assert content(stage(tmp_path / "two", workers=2, contexts_per_shard=7, batch_contexts=3)) == content(cut)


def test_a_resumed_run_gives_the_same_bytes_and_makes_only_what_is_missing(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its fourth shard, and given the same command again."""
    whole = content(stage(tmp_path / "whole", contexts_per_shard=8))
    plain, calls = aux.upsample.predict, []

    def stopping(*arguments: object, **options: object) -> np.ndarray:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return plain(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(aux.upsample, "predict", stopping)
    with pytest.raises(KeyboardInterrupt):
        stage(tmp_path / "cut", contexts_per_shard=8)
    assert len(Shards(tmp_path / "cut").names) == 3
    assert not (tmp_path / "cut" / "rows.parquet").exists()
    assert content(stage(tmp_path / "cut", contexts_per_shard=8)) == whole
    assert len(calls) == 4 + 4  # of seven shards, the four that were missing


class Watched:
    """An array that notes how many of its rows are asked for at a time."""

    def __init__(self, array: np.ndarray, read: list[int]) -> None:
        self.array, self.shape, self.read = array, array.shape, read

    def __getitem__(self, which: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.array[which]
        self.read.append(len(found))
        return found


def test_the_corpus_is_read_piece_by_piece(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every item its own contexts, then the table of rows, 16 contexts at a time; no piece holds two splits."""
    read: list[int] = []
    monkeypatch.setattr(corpus, "read_array", lambda path: Watched(read_array(path), read))
    monkeypatch.setattr(corpus, "CONTEXTS_AT_ONCE", 16)
    stage(tmp_path / "one", contexts_per_shard=8)
    assert read == [8, 7, 8, 8, 8, 8, 8, 15, 16, 16, 8]
