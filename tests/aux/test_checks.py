import pytest

from aux.checks import LIBRARIES, check_machine
from aux.config import AuxConfig
from scale.errors import UserError


@pytest.mark.parametrize("logger", ["tensorboard", "wandb"])
def test_a_missing_library_is_named_with_its_remedy(logger, monkeypatch):
    config = AuxConfig(logger=logger)
    monkeypatch.setattr("aux.checks.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"^aux\.logger: .*pip install {logger}"):
        check_machine(config)
    monkeypatch.setattr("aux.checks.find_spec", lambda name: name == LIBRARIES[logger][-1])
    check_machine(config)


def test_csv_needs_no_library(monkeypatch):
    monkeypatch.setattr("aux.checks.find_spec", lambda name: None)
    check_machine(AuxConfig())


@pytest.mark.parametrize(
    ("accelerator", "devices", "gpus", "good"),
    [("gpu", 1, 0, False), ("gpu", 2, 2, True), ("gpu", 3, 2, False), ("auto", 3, 2, False), ("auto", 3, 0, True),
     ("auto", 1, 1, True), ("cpu", 3, 2, True)],
)  # fmt: skip
def test_more_gpus_than_there_are_is_an_error(accelerator, devices, gpus, good, monkeypatch):
    monkeypatch.setattr("aux.checks.count_gpus", lambda: gpus)
    config = AuxConfig(accelerator=accelerator, devices=devices)
    if good:
        check_machine(config)
    else:
        with pytest.raises(UserError, match=rf"^aux\.devices is {devices}, GPUs here: {gpus}"):
            check_machine(config)
