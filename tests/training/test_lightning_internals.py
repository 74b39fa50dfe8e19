"""The private names of Lightning still mean what this project uses them for; resuming is tested in tests/behaviour."""

from types import SimpleNamespace

import lightning as L
import pytest

from dcgan.training.lightning_internals import (
    after_signal_registration,
    count_optimizer_steps,
    current_batch_in_epoch,
    restore_loop_progress,
)


@pytest.fixture
def trainer(tmp_path):
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)


def test_function_is_called_after_lightning_has_registered_its_handlers(trainer, monkeypatch):
    calls = []
    connector = trainer._signal_connector
    monkeypatch.setattr(connector, "register_signal_handlers", lambda: calls.append("Lightning"))
    after_signal_registration(trainer, lambda: calls.append("function"))
    connector.register_signal_handlers()
    assert calls == ["Lightning", "function"]


def test_no_batch_is_started_before_training(trainer):
    assert current_batch_in_epoch(trainer) == 0


def test_optimizer_steps_are_counted_in_the_order_of_the_updates():
    calls = []

    def optimizer(name):
        return SimpleNamespace(_on_before_step=lambda: None, _on_after_step=lambda: calls.append(name))

    count_optimizer_steps([optimizer("D"), optimizer("G")], 2)
    assert calls == ["D", "D", "G"]


@pytest.mark.parametrize(
    ("ready", "is_last_batch", "processes", "world_size", "batches_per_epoch", "done"),
    [
        (3, False, 1, 1, 8, 3),
        (8, True, 1, 1, 8, 8),
        (3, False, 2, 1, 8, 6),  # two ranks made the checkpoint, one resumes
        (6, False, 1, 2, 4, 3),
        (4, True, 2, 1, 8, 8),
    ],
)
def test_progress_is_converted_to_the_resumed_number_of_ranks(
    ready, is_last_batch, processes, world_size, batches_per_epoch, done
):
    counts = {"ready": 2, "started": 2, "processed": 1, "completed": 1}
    fit_loop = {
        "epoch_loop.batch_progress": {"current": {"ready": ready}, "is_last_batch": is_last_batch},
        "epoch_progress": {"total": dict(counts), "current": dict(counts)},
        "state_dict": {},
    }
    restore_loop_progress({"fit_loop": fit_loop}, processes, SimpleNamespace(world_size=world_size), batches_per_epoch)
    assert fit_loop["epoch_loop.batch_progress"]["current"]["ready"] == done
    assert fit_loop["state_dict"]["combined_loader"] == [{"delivered": done % batches_per_epoch * world_size}]
    assert fit_loop["epoch_progress"]["current"] == {"ready": 2, "started": 2, "processed": 1, "completed": 1}
