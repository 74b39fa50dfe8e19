"""When a run saves checkpoints, and which state is saved if it fails."""

import copy
import shutil
import sys
import time
from contextlib import suppress
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from dcgan.checkpoints.io import FORMAT
from dcgan.checkpoints.lightning_io import ALTERNATIVE
from dcgan.common.arg_checks import check_bool, check_int, check_number
from dcgan.common.atomic_files import atomic_path, write_errors
from dcgan.common.errors import CollectiveError, NonFiniteError
from dcgan.gan import GAN
from dcgan.runs.run_dir import last_checkpoint
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from dcgan.training.callbacks.shared import is_last_step
from dcgan.training.context import find_callback, run_context
from dcgan.training.lightning_internals import current_batch_in_epoch, dump_checkpoint
from dcgan.training.rank_buffers import save_buffers
from dcgan.training.resume import restore_training
from dcgan.training.signals import SYNC_EVERY_N_STEPS, WARNING_SIGNAL, Interrupted

BEST = "best.ckpt"
CHECK_TIME_EVERY_N_STEPS = 50
COPY_EVERY_N_STEPS = 500  # to memory, in case the next steps or the disk fail; a multiple of the former
SLOW_SECONDS = 15  # to write a checkpoint


class CheckpointCallback(L.Callback):
    """Save checkpoints/last.ckpt and checkpoints/best.ckpt.

    last.ckpt is saved at the start (an unwritable folder is noticed before the work), at intervals of steps or minutes,
    at the end, and when the run is interrupted, fails or is stopped as unhealthy. best.ckpt is saved at the lowest
    `test/frechet` (or `test/frechet_random_conv`, ...): it is selected on the test images. Only finite weights are
    saved.

    Lightning's ModelCheckpoint counts optimizer steps and ignores minutes in manual optimization (#17958, #21699).

    Args:
        every_n_steps: Interval in steps, >= 1; None: no such interval.
        every_n_minutes: Interval in minutes, > 0; None: no such interval.
        best: Save best.ckpt.
    """

    def __init__(self, every_n_steps: int | None, every_n_minutes: float | None, best: bool = True) -> None:
        check_int("checkpoints.every_n_steps", every_n_steps, 1, optional=True)
        if every_n_minutes is not None:
            check_number("checkpoints.every_n_minutes", every_n_minutes, 0, float("inf"), brackets="()")
        check_bool("checkpoints.best", best)
        self.every_n_steps, self.every_n_minutes, self.saves_best = every_n_steps, every_n_minutes, best
        self.best_due = False  # set by the evaluation of a step that is the best so far
        self.stop_reason: str | None = None  # set by a callback that wants the run to end as failed after this step
        self.stopped = False  # True if another callback has stopped the run
        self.started = False  # True after the first step
        self.step_at_batch_start = -1  # equal to gan.step while a step is incomplete
        self.saved_step = -1  # of the state in last.ckpt
        self.last_good: dict[str, Any] | None = None  # the last state that was saved or copied to memory
        self.rescued = False  # True if last.ckpt was written from memory after the run folder had disappeared

    def setup(self, trainer: L.Trainer, gan: GAN, stage: str) -> None:
        self.path = last_checkpoint(run_context(trainer).run_dir)
        self.metrics_logger = find_callback(trainer, MetricsLogger)
        self.signals = run_context(trainer).signals
        self.several_ranks = trainer.world_size > 1

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        self.saved_at = time.monotonic()
        if gan.step == 0:
            self.save(trainer, gan)
        elif trainer.is_global_zero and not (self.path.exists() and self.path.samefile(str(trainer.ckpt_path))):
            with write_errors(self.path, ALTERNATIVE), atomic_path(self.path) as temporary:
                shutil.copyfile(str(trainer.ckpt_path), temporary)
        self.saved_step = gan.step

    def on_train_batch_start(self, trainer: L.Trainer, gan: GAN, batch: Tensor, batch_idx: int) -> None:
        self.step_at_batch_start = gan.step

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        self.started = True
        if self.best_due and self.saves_best:
            self.best_due = False
            self.require_finite(trainer, gan)
            self.write(trainer, BEST)
        # the last step is saved here: later, Lightning counts an epoch that was stopped as a complete one
        last = is_last_step(trainer)
        steps_due = self.is_save_due(gan.step)
        minutes_due = gan.step % CHECK_TIME_EVERY_N_STEPS == 0 and self.minutes_due(trainer)
        number = self.signals.synchronized(trainer, gan.step)
        if last or steps_due or minutes_due or number is not None or self.stop_reason is not None:
            self.save(trainer, gan)
        elif gan.step % COPY_EVERY_N_STEPS == 0:
            self.require_finite(trainer, gan)
            self.copy_to_memory(trainer)
        if number == WARNING_SIGNAL:
            self.signals.requeue()
        elif number is not None and not last:
            raise Interrupted(f"interrupted at step {gan.step}: resume with ckpt_path={self.path}", number)
        if self.stop_reason is not None and not last:
            raise CollectiveError(
                f"stopped at step {gan.step}, because {self.stop_reason}; {self.path} holds its state"
            )

    def is_save_due(self, step: int) -> bool:
        return self.every_n_steps is not None and step % self.every_n_steps == 0

    def is_due(self, step: int) -> bool:
        is_signal_due = step % SYNC_EVERY_N_STEPS == 0 if self.several_ranks else self.signals.received is not None
        return self.is_save_due(step) or step % CHECK_TIME_EVERY_N_STEPS == 0 or is_signal_due

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        if self.saved_step != gan.step:
            self.stopped = True
            self.save(trainer, gan)

    def on_exception(self, trainer: L.Trainer, gan: GAN, exception: BaseException) -> None:
        if self.saved_step >= 0:  # the training has started
            self.rescue(trainer, gan, current=not isinstance(exception, NonFiniteError))
        if isinstance(exception, NonFiniteError):
            state = f"{self.path} holds the last good state, of step {self.saved_step}"
            exception.args = (f"{exception}; {state}; a lower optimizer.lr often helps",)

    def rescue(self, trainer: L.Trainer, gan: GAN, current: bool) -> None:
        """Save the last complete state, if last.ckpt does not hold it. Never raises: the first error is reported.

        Args:
            current: Save the networks as they are, if their last step is complete; else the copy in memory.
        """
        # between two epochs, Lightning's counters belong to neither
        complete = gan.step > self.step_at_batch_start and current_batch_in_epoch(trainer) > 0
        # one of several ranks cannot save alone: its statistics are averaged with those of the others
        if current and complete and gan.step > self.saved_step and trainer.world_size == 1:
            with suppress(Exception):
                self.require_finite(trainer, gan)
                for logger in trainer.loggers:
                    with suppress(OSError):
                        logger.save()
                self.copy_to_memory(trainer)
        gone = not self.path.exists()
        if trainer.is_global_zero and self.last_good is not None and (gone or self.last_good["step"] > self.saved_step):
            with suppress(Exception):
                trainer.strategy.save_checkpoint(self.last_good, self.path)
                self.saved_step, self.rescued = self.last_good["step"], gone

    def minutes_due(self, trainer: L.Trainer) -> bool:
        if self.every_n_minutes is None:
            return False
        due = time.monotonic() - self.saved_at >= 60 * self.every_n_minutes
        # saving is a collective operation and clocks differ, so rank 0 decides
        return trainer.strategy.broadcast(due) if trainer.world_size > 1 else due

    def require_finite(self, trainer: L.Trainer, gan: GAN) -> None:
        """Raise NonFiniteError, on all ranks, if a loss or a weight is not finite."""
        self.metrics_logger.read_from_device(trainer, gan)
        # a norm per tensor would be a kernel per tensor on a GPU; an infinity norm of nothing is undefined
        weights = [value for value in gan.state_dict().values() if value.is_floating_point() and value.numel()]
        finite = get_total_norm(weights, norm_type=torch.inf).isfinite()
        # running statistics differ between ranks, so all ranks agree
        if not trainer.strategy.reduce(finite.int(), reduce_op="min"):
            raise NonFiniteError(f"training stopped: at step {gan.step} there are weights that are not finite")

    def save(self, trainer: L.Trainer, gan: GAN) -> None:
        """Save last.ckpt. A collective operation."""
        self.require_finite(trainer, gan)
        for logger in trainer.loggers:
            logger.save()  # before the checkpoint, as rows up to its step are not logged again on resume
        start = time.monotonic()
        self.write(trainer, self.path.name)
        self.saved_at, self.saved_step = time.monotonic(), gan.step
        if self.saved_at - start > SLOW_SECONDS and trainer.is_global_zero:
            print(
                f"note: writing {self.path} took {self.saved_at - start:.0f} s, the disk is slow: choose another "
                "hydra.run.dir or a larger checkpoints.every_n_steps",
                file=sys.stderr,
            )

    def copy_to_memory(self, trainer: L.Trainer) -> dict[str, Any]:
        self.last_good = copy.deepcopy(dump_checkpoint(trainer))
        return self.last_good

    def write(self, trainer: L.Trainer, name: str) -> None:
        trainer.strategy.save_checkpoint(self.copy_to_memory(trainer), self.path.with_name(name))
        trainer.strategy.barrier()  # no rank may end while rank 0 still writes

    def on_save_checkpoint(self, trainer: L.Trainer, gan: GAN, checkpoint: dict[str, Any]) -> None:
        data = trainer.datamodule
        checkpoint |= {
            "format": FORMAT,
            "config": run_context(trainer).config,
            "choices": run_context(trainer).choices,
            "step": gan.step,
            "stopped": self.stopped,
            "processes": trainer.world_size,
            "device": trainer.strategy.root_device.type,
            "dataset": data.dataset_name,
            # of whole images: stacked digits are classified by channel
            "judge": data.judge_name if data.classes is not None and data.judged_channels == 1 else None,
            "images": data.n_images,
            "fingerprint": data.fingerprint,
        }
        save_buffers(trainer, gan, checkpoint)

    def on_load_checkpoint(self, trainer: L.Trainer, gan: GAN, checkpoint: dict[str, Any]) -> None:
        restore_training(checkpoint, trainer, gan)
