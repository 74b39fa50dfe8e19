import csv

import pytest

from dcgan.common.errors import UserError
from dcgan.training.csv_logger import CSVMetricsLogger


def start(run_dir, resumed_step):
    logger = CSVMetricsLogger()
    logger.start(run_dir, resumed_step)
    return logger


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_of_a_step_are_merged_and_a_new_metric_adds_a_column(tmp_path):
    logger = start(tmp_path, None)
    logger.log_metrics({"a": 1.0}, 1)
    logger.log_metrics({"b": 2.0}, 1)
    logger.save()
    logger.log_metrics({"b": 3.0}, 1)  # the row is on disk already
    logger.log_metrics({"a": 4.0}, 2)
    logger.log_metrics({"c": 5.0}, 3)
    logger.finalize("success")
    assert rows(logger.path) == [
        {"step": "1", "a": "1.0", "b": "3.0", "c": ""},
        {"step": "2", "a": "4.0", "b": "", "c": ""},
        {"step": "3", "a": "", "b": "", "c": "5.0"},
    ]


def test_resumed_run_drops_later_rows_and_a_new_run_drops_all(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,a\n1,1\n2,2\n3,3\n")
    for resumed_step, steps in ((2, ["1", "2", "9"]), (None, ["9"])):
        logger = start(tmp_path, resumed_step)
        logger.log_metrics({"a": 9.0}, 9)
        logger.save()
        assert [row["step"] for row in rows(path)] == steps


def test_row_truncated_by_a_kill_is_dropped(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,a,b\n1,1,\n12,2,3\n100,4,5")
    assert [row["step"] for row in start(tmp_path, 1000).rows] == ["1", "12"]


def test_table_without_steps_is_rejected(tmp_path):
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="is not a table of this run's metrics"):
        start(tmp_path, 1)


def test_deleted_table_is_an_error(tmp_path):
    logger = start(tmp_path, None)
    logger.log_metrics({"a": 1.0}, 1)
    logger.save()
    logger.path.unlink()
    with pytest.raises(FileNotFoundError):
        logger.log_metrics({"a": 2.0}, 2)
