"""The private names of Lightning that have no public equivalent, in one place."""

from collections.abc import Callable
from typing import Any, cast

import lightning as L
from torch.optim import Optimizer


def dump_checkpoint(trainer: L.Trainer) -> dict[str, Any]:
    """Return the checkpoint dict of the trainer's current state. A collective operation."""
    return trainer._checkpoint_connector.dump_checkpoint()


def after_signal_registration(trainer: L.Trainer, function: Callable[[], None]) -> None:
    """Call the function each time that Lightning has installed its own signal handlers."""
    connector = trainer._signal_connector
    register = connector.register_signal_handlers

    def register_and_call() -> None:
        register()
        function()

    connector.register_signal_handlers = register_and_call  # type: ignore[method-assign]


def count_optimizer_steps(optimizers: list[Optimizer], discriminator_steps: int) -> None:
    """Add one step's optimizer steps to `global_step`, if the optimizers themselves were not called."""
    optimizer_d, optimizer_g = cast(list[Any], optimizers)
    for optimizer in (*[optimizer_d] * discriminator_steps, optimizer_g):
        optimizer._on_before_step()
        optimizer._on_after_step()


def count_batch(trainer: L.Trainer) -> None:
    """Count the step that ends as a batch, and that the next one has started, if a Lightning batch is several steps."""
    epoch_loop = trainer.fit_loop.epoch_loop
    progress = epoch_loop.batch_progress
    progress.increment_processed()
    progress.increment_completed()
    epoch_loop._batches_that_stepped += 1
    progress.increment_ready()
    progress.increment_started()


def report_batch(dataloader_iter: Any, batch: Any) -> None:
    """Let callbacks get this batch, if a Lightning batch is several steps."""
    dataloader_iter.data_fetcher._batch = batch


def remove_sigterm_broadcast(trainer: L.Trainer) -> None:
    """Let the ranks not tell each other at each batch whether SIGTERM has arrived, which waits for the device.

    `dcgan.training.signals` does this less often.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def current_batch_in_epoch(trainer: L.Trainer) -> int:
    """Return how many batches of the current epoch have been started, 0 between two epochs."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def restore_loop_progress(
    loops: dict[str, Any], processes: int, trainer: L.Trainer, batches_per_epoch: int, stopped: bool = False
) -> None:
    """Correct Lightning's counters in a checkpoint, in place, so that training resumes after the saved batch.

    Resumed at the end of an epoch, Lightning counts that epoch twice, and repeats one the next time. With another
    number of ranks, an epoch has another number of batches.

    Args:
        loops: The checkpoint's "loops".
        processes: The number of ranks that made the checkpoint.
        trainer: The resumed run's trainer.
        batches_per_epoch: Batches of one epoch on one rank of the resumed run.
        stopped: The checkpoint was saved after a callback had stopped the run: Lightning has counted the last batch and
            its epoch as completed.
    """
    fit_loop = loops["fit_loop"]
    batches, epochs = fit_loop["epoch_loop.batch_progress"], fit_loop["epoch_progress"]
    ready = batches["current"]["ready"]
    if ready == 0:
        return
    done = (
        batches_per_epoch
        if batches["is_last_batch"]
        else min(ready * processes // trainer.world_size, batches_per_epoch)
    )
    # the loader may be one batch ahead, if it has delivered one that no step was made of
    fit_loop["state_dict"]["combined_loader"] = [{"delivered": done % batches_per_epoch * trainer.world_size}]
    # a checkpoint is saved at the end of a batch, which Lightning only counts as completed after all callbacks
    batches["current"] = {"ready": done, "started": done, "processed": done, "completed": done - 1}
    if stopped:
        batches["total"]["completed"] -= 1
    completed = epochs["current"]["processed"] - stopped
    for counts in epochs.values():
        counts.update(ready=completed + 1, started=completed + 1, processed=completed, completed=completed)
