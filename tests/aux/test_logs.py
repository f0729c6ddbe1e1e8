from aux.logs import write_log

HISTORY = [{"train_error": 0.5, "validation_pearson": 1 / 3}, {"train_error": 2e-5, "validation_pearson": -0.25}]


def test_log_has_a_line_per_epoch_and_replaces_a_shorter_one(tmp_path):
    path = tmp_path / "log.csv"
    write_log(path, HISTORY[:1])
    write_log(path, HISTORY)
    assert path.read_text() == "epoch,train_error,validation_pearson\n0,0.5,0.333333333\n1,2e-05,-0.25\n"
