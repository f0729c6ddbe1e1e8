"""What bfloat16 is worth: a ratio of measured times, and only a GPU is taken to have it."""

import pytest
import torch

from scale.model import precision
from scale.model.precision import bfloat16_speed, native_bfloat16, product_seconds

CPU = torch.device("cpu")


def test_a_larger_product_takes_longer() -> None:
    """27 times the work."""
    assert product_seconds(torch.float32, CPU, 768) > 3 * product_seconds(torch.float32, CPU, 256)


def test_the_speed_is_that_of_bfloat16_over_that_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: 4.0}
    monkeypatch.setattr(precision, "product_seconds", lambda dtype, device, edge: seconds[dtype])
    assert bfloat16_speed(CPU) == 0.25


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_is_asked_and_a_processor_is_not(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated support does not count."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported or including_emulation
    )
    assert native_bfloat16(torch.device("cuda")) == supported
    assert not native_bfloat16(CPU)
