"""Prediction where the activations are: the auxiliary model's own numbers, whatever the parts and the batches."""

import pytest
import torch

from aux import predictor
from aux.model import AuxModel, AuxShape
from aux.predictor import Predictor

CPU = torch.device("cpu")


def model_with_statistics(parts: int = 3, width: int = 5, outputs: int = 4) -> AuxModel:
    """Means and scales that matter: a normalisation left out, or done twice, is not small."""
    model = AuxModel(AuxShape(parts * width, 24, outputs))
    generator = torch.Generator().manual_seed(1)
    for name in ("input", "target"):
        mean, scale = getattr(model, f"{name}_mean"), getattr(model, f"{name}_scale")
        mean.normal_(3.0, 2.0, generator=generator)
        scale.uniform_(0.5, 4.0, generator=generator)
    return model.eval()


def parts_of(contexts: int = 6, length: int = 7, parts: int = 3, width: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(contexts, length, width, generator=generator) * (i + 1) + 3 for i in range(parts)]


def by_hand(model: AuxModel, parts: list[torch.Tensor]) -> torch.Tensor:
    """y = μ + σ (D relu(E (x - m) / s + b) + c), row by row, in float64."""
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    found = []
    for context in range(len(parts[0])):
        for position in range(parts[0].shape[1]):
            x = torch.cat([part[context, position].double() for part in parts])
            x = (x - weights["input_mean"]) / weights["input_scale"]
            h = (weights["encoder.weight"] @ x + weights["encoder.bias"]).clamp(min=0)
            y = weights["decoder.weight"] @ h + weights["decoder.bias"]
            found.append(weights["target_mean"] + weights["target_scale"] * y)
    return torch.stack(found)


def test_coordinates_are_the_models_equation() -> None:
    model, parts = model_with_statistics(), parts_of()
    expected = by_hand(model, parts)
    found = Predictor(model, CPU)(parts)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-4)
    assert expected.std(dim=0).min() > 0.1
    swapped = Predictor(model, CPU)([parts[1], parts[0], parts[2]])
    assert not torch.allclose(swapped.double(), expected, atol=0.1)


def test_the_model_alone_and_the_predictor_agree() -> None:
    model, parts = model_with_statistics(), parts_of()
    with torch.no_grad():
        expected = model(torch.cat([part.flatten(0, 1) for part in parts], dim=1))
    assert torch.allclose(Predictor(model, CPU)(parts), expected, atol=1e-5)


@pytest.mark.parametrize("hidden", [1, 24 * 5, 24 * 1000])
def test_rows_at_once_change_nothing(hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 row (the least), 5 rows (not a divisor of 42) and all rows at a time."""
    model, parts = model_with_statistics(), parts_of()
    expected = Predictor(model, CPU)(parts)
    monkeypatch.setattr(predictor, "CPU_HIDDEN", hidden)
    small = Predictor(model, CPU)
    assert small.rows == max(1, hidden // 24)
    assert torch.allclose(small(parts), expected, atol=1e-5)


def test_bfloat16_rounds_products_and_not_what_they_are_centred_on() -> None:
    """A stream far from zero: rounded before it is centred, an error of 300 · 2⁻⁹ would drown what varies."""
    model, parts = model_with_statistics(), [part + 300 for part in parts_of()]
    model.input_mean += 300
    predicted = Predictor(model, CPU)
    plain, rounded = predicted(parts), predicted(parts, bfloat16=True)
    assert rounded.dtype == torch.float32
    error = (rounded - plain).abs().max() / plain.std()
    assert 1e-5 < error < 0.05


def test_parts_in_half_precision_are_normalised_in_float32() -> None:
    """As a language model in bfloat16 gives them."""
    model = model_with_statistics()
    parts = [part.bfloat16() for part in parts_of()]
    assert torch.allclose(
        Predictor(model, CPU)(parts).double(), by_hand(model, [part.float() for part in parts]), atol=1e-4
    )
