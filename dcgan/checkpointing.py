"""Checkpoints: written whole or not at all, and read without running code."""

import copy
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from dcgan.callbacks import Monitor, at_the_end
from dcgan.checks import NonFiniteError, SharedError, UserError, check_int, check_number
from dcgan.files import atomic_path, writing
from dcgan.gan import GAN
from dcgan.health import Health
from dcgan.interruption import WARNING, Interrupted, Interruption
from dcgan.resuming import NOT_THE_SAME, compare_data, set_optimizers, set_position
from dcgan.seal import seal
from dcgan.trained import FORMAT, read_checkpoint
from dcgan.validation import Validation

BEST = "best.ckpt"
INSTEAD = "another hydra.run.dir; an earlier checkpoint there, if any, is whole"
LOOK_EVERY_N_STEPS = 50  # at the clock
REMEMBER_EVERY_N_STEPS = 100  # a copy of the state in memory, for the case that the next steps or the disk go wrong
SLOW_SECONDS = 15  # to write a checkpoint
ROLLBACK_FACTOR = 0.5  # of the learning rates


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own write crosses file systems without a flush: killed there, it leaves half a file (#21253); its
    own read notices no damage."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with writing(path, INSTEAD), atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)
            seal(temporary)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # no view of the file: an optimizer would go on working in it
        return copy.deepcopy(read_checkpoint(path))


class Checkpoints(L.Callback):
    """checkpoints/last.ckpt at the start (so that an unwritable folder shows before the work, not after), every so
    many steps or minutes, at the end, and when the run is interrupted or found unhealthy; checkpoints/best.ckpt where
    the validation finds its best figure. Only finite weights are saved; where a run goes wrong, the last good state
    is. Lightning's ModelCheckpoint counts optimizer steps and ignores minutes in manual optimization (#17958, #21699).

    config, choices: plain containers, saved along. every_n_steps: None or >= 1; every_n_minutes: None or > 0.
    """

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        choices: dict[str, str],
        monitor: Monitor,
        validation: Validation,
        health: Health,
        interruption: Interruption,
        every_n_steps: int | None,
        every_n_minutes: float | None,
    ) -> None:
        check_int("checkpoints.every_n_steps", every_n_steps, 1, optional=True)
        if every_n_minutes is not None:
            check_number("checkpoints.every_n_minutes", every_n_minutes, 0, float("inf"), brackets="()")
        self.path, self.config, self.choices = path, config, choices
        self.monitor, self.validation, self.health, self.interruption = monitor, validation, health, interruption
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self.started = False  # whether a step has been made
        self.begun_at = -1  # the step that the current batch was begun at; another one once the batch is done
        self.saved_step = -1  # of the state in last.ckpt
        self.good: dict[str, Any] | None = None  # the last state that was saved or remembered
        self.rescued = False  # whether last.ckpt is written out of memory, after the run folder was lost
        self.rolled_back: int | None = None  # the step that the run has gone back to, if it has

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        self.saved_at = time.monotonic()
        # a run that goes on elsewhere left its best one behind; processes may not see the same folder
        if not trainer.strategy.broadcast(self.path.with_name(BEST).exists()):
            self.validation.best = float("inf")
        if gan.step == 0:
            self.save(trainer, gan)
        elif trainer.is_global_zero and not (self.path.exists() and self.path.samefile(str(trainer.ckpt_path))):
            with writing(self.path, INSTEAD), atomic_path(self.path) as temporary:
                shutil.copyfile(str(trainer.ckpt_path), temporary)
        self.saved_step = gan.step

    def on_train_batch_start(self, trainer: L.Trainer, gan: GAN, batch: Tensor, batch_idx: int) -> None:
        self.begun_at = gan.step

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        self.started = True
        if self.validation.best_step == gan.step:
            self.require_finite(trainer, gan)
            self.write(trainer, BEST)
        # the last step is saved from here: after it, Lightning counts a stopped epoch as a whole one
        last = at_the_end(trainer)
        steps_due = self.every_n_steps is not None and gan.step % self.every_n_steps == 0
        minutes_due = gan.step % LOOK_EVERY_N_STEPS == 0 and self.minutes_due(trainer)
        number = self.interruption.agreed(trainer, gan.step)
        verdict = self.health.verdict
        if last or steps_due or minutes_due or number is not None or verdict is not None:
            self.save(trainer, gan)
        elif gan.step % REMEMBER_EVERY_N_STEPS == 0:
            self.require_finite(trainer, gan)
            self.remember(trainer)
        if number == WARNING:
            self.interruption.requeue()
        elif number is not None and not last:
            raise Interrupted(f"interrupted at step {gan.step}: go on with ckpt_path={self.path}", number)
        if verdict is not None and not last:
            raise SharedError(f"stopped at step {gan.step}, because {verdict}; {self.path} holds its state")

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        if self.saved_step != gan.step:  # stopped by something that this class does not know
            self.save(trainer, gan)

    def on_exception(self, trainer: L.Trainer, gan: GAN, exception: BaseException) -> None:
        if self.saved_step >= 0:  # the training has begun
            self.rescue(trainer, gan, live=not isinstance(exception, NonFiniteError))
        if isinstance(exception, NonFiniteError):
            state = f"{self.path} holds the last good state, of step {self.saved_step}"
            exception.args = (f"{exception}; {state}; a lower optimizer.lr often helps",)
            exception.first = self.rolled_back is None

    def rescue(self, trainer: L.Trainer, gan: GAN, live: bool) -> None:
        """Save the last complete state where last.ckpt does not hold it yet and can be written. No error in here takes
        the place of the one that has ended the training.

        live: whether the networks may be saved as they are, if their last step is complete, else the copy in memory.
        """
        # between two epochs Lightning's counters belong to neither
        complete = gan.step > self.begun_at and trainer.fit_loop.epoch_loop.batch_progress.current.ready > 0
        # of several processes the others may be past saving their part
        if live and complete and gan.step > self.saved_step and trainer.world_size == 1:
            with suppress(Exception):
                self.require_finite(trainer, gan)
                for logger in trainer.loggers:
                    with suppress(OSError):
                        logger.save()
                self.remember(trainer)
        gone = not self.path.exists()
        if trainer.is_global_zero and self.good is not None and (gone or self.good["step"] > self.saved_step):
            with suppress(Exception):
                trainer.strategy.save_checkpoint(self.good, self.path)
                self.saved_step, self.rescued = self.good["step"], gone

    def minutes_due(self, trainer: L.Trainer) -> bool:
        if self.every_n_minutes is None:
            return False
        due = time.monotonic() - self.saved_at >= 60 * self.every_n_minutes
        # clocks of ranks differ: one word for all, as saving is a collective operation
        return trainer.strategy.broadcast(due) if trainer.world_size > 1 else due

    def require_finite(self, trainer: L.Trainer, gan: GAN) -> None:
        self.monitor.look(trainer, gan)
        finite = torch.stack([value.isfinite().all() for value in gan.state_dict().values()]).all()
        # running statistics differ between processes: one word for all
        if not trainer.strategy.reduce(finite.int(), reduce_op="min"):
            raise NonFiniteError(f"training stopped: at step {gan.step} there are weights that are not finite")

    def save(self, trainer: L.Trainer, gan: GAN) -> None:
        self.require_finite(trainer, gan)
        for logger in trainer.loggers:
            logger.save()  # what is logged up to here is out of this process before the checkpoint says that it was
        start = time.monotonic()
        self.write(trainer, self.path.name)
        self.saved_at, self.saved_step = time.monotonic(), gan.step
        if self.saved_at - start > SLOW_SECONDS and trainer.is_global_zero:
            print(
                f"note: writing {self.path} took {self.saved_at - start:.0f} s, the disk is slow: choose another "
                "hydra.run.dir or a larger checkpoints.every_n_steps",
                file=sys.stderr,
            )

    def remember(self, trainer: L.Trainer) -> dict[str, Any]:
        self.good = copy.deepcopy(trainer._checkpoint_connector.dump_checkpoint())  # no public name for it
        return self.good

    def write(self, trainer: L.Trainer, name: str) -> None:
        trainer.strategy.save_checkpoint(self.remember(trainer), self.path.with_name(name))
        trainer.strategy.barrier()  # no process ends while the first one still writes

    def on_save_checkpoint(self, trainer: L.Trainer, gan: GAN, checkpoint: dict[str, Any]) -> None:
        checkpoint["format"] = FORMAT
        checkpoint["config"] = self.config
        checkpoint["choices"] = self.choices
        checkpoint["dataset"] = trainer.datamodule.dataset_name
        checkpoint["processes"] = trainer.world_size
        checkpoint["images"] = trainer.datamodule.n_images
        checkpoint["fingerprint"] = trainer.datamodule.fingerprint
        checkpoint["rolled_back"] = self.rolled_back

    def on_load_checkpoint(self, trainer: L.Trainer, gan: GAN, checkpoint: dict[str, Any]) -> None:
        self.rolled_back = checkpoint["rolled_back"]
        if checkpoint["images"] != trainer.datamodule.n_images:
            raise UserError(
                f"the checkpoint was made with {checkpoint['images']:,} training images, now there are "
                f"{trainer.datamodule.n_images:,}: give it the same data"
            )
        compare_data(checkpoint["fingerprint"], trainer)
        set_position(checkpoint, trainer)
        set_optimizers(checkpoint, gan)
        if checkpoint["processes"] != trainer.world_size and trainer.is_global_zero:
            print(
                f"note: this checkpoint is of {checkpoint['processes']} processes, now there are {trainer.world_size}: "
                f"{NOT_THE_SAME}",
                file=sys.stderr,
            )


def roll_back(path: Path) -> None:
    """Lower the learning rates in a checkpoint, for good; it remembers that this was done."""
    checkpoint = read_checkpoint(path)
    for optimizer in checkpoint["optimizer_states"]:
        for group in optimizer["param_groups"]:
            group["lr"] *= ROLLBACK_FACTOR
    checkpoint["rolled_back"] = checkpoint["step"]
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
