import pytest

from dcgan.training.loggers import TensorBoard
from tests.run_files import events


def start(run_dir, resumed_step):
    logger = TensorBoard()
    logger.start(run_dir, resumed_step)
    return logger


def test_tensorboard_hides_events_after_the_resumed_step(tmp_path):
    for resumed_step, value in ((None, 1.0), (2, 2.0)):
        logger = start(tmp_path, resumed_step)
        for step in range((resumed_step or 0) + 1, 5):
            logger.log_metrics({"a": value}, step)
        logger.finalize("success")
    assert [(event.step, event.value) for event in events(tmp_path).Scalars("a")] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    assert all("tfevents" in path.name for path in tmp_path.iterdir())


def test_error_of_the_event_file_is_hidden_after_a_failed_training_only(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("lightning.pytorch.loggers.TensorBoardLogger.finalize", fail)
    logger = start(tmp_path, None)
    logger.finalize("failed")
    with pytest.raises(OSError, match="disk full"):
        logger.finalize("success")
