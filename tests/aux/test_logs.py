import dataclasses

import pytest

from aux.config import AuxConfig
from aux.logs import LIBRARIES, check_logger, write_log
from scale.errors import UserError

HISTORY = [{"train_error": 0.5, "validation_pearson": 1 / 3}, {"train_error": 2e-5, "validation_pearson": -0.25}]


def test_log_has_a_line_per_epoch_and_replaces_a_shorter_one(tmp_path):
    path = tmp_path / "log.csv"
    write_log(path, HISTORY[:1])
    write_log(path, HISTORY)
    assert path.read_text() == "epoch,train_error,validation_pearson\n0,0.5,0.333333333\n1,2e-05,-0.25\n"


@pytest.mark.parametrize("logger", ["tensorboard", "wandb"])
def test_a_missing_library_is_named_with_its_remedy(logger, monkeypatch):
    config = dataclasses.replace(AuxConfig(), logger=logger)
    monkeypatch.setattr("aux.logs.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"^aux\.logger: .*pip install {logger}"):
        check_logger(config)
    monkeypatch.setattr("aux.logs.find_spec", lambda name: name == LIBRARIES[logger][-1])
    check_logger(config)


def test_csv_needs_no_library(monkeypatch):
    monkeypatch.setattr("aux.logs.find_spec", lambda name: None)
    check_logger(AuxConfig())
