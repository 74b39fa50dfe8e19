"""Checkpoints: written whole or not at all, read without running code, and gone on from."""

import copy
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from dcgan.callbacks import Monitor
from dcgan.checks import NonFiniteError, UserError, check_int, check_number, first_line
from dcgan.files import atomic_path
from dcgan.gan import GAN
from dcgan.interruption import Interrupted, Interruption

FORMAT = 1
LOOK_EVERY_N_STEPS = 50  # at the clock
REMEMBER_EVERY_N_STEPS = 100  # a copy of the state in memory, for the case that the next steps go wrong
# what a resumed run may change: how long, where, and what is written; never the maths
FREE_KEYS = (
    "max_steps",
    "max_epochs",
    "trainer",
    "data.root",
    "data.workers",
    "log",
    "samples.steps",
    "checkpoints",
    "ckpt_path",
    "sweep",
    "skip_finished",
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own write crosses file systems without a flush: killed there, it leaves half a file (#21253)."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            with atomic_path(path) as temporary:
                torch.save(checkpoint, temporary)
        except (RuntimeError, OSError) as error:  # torch's zip writer turns a full disk into a RuntimeError
            raise UserError(
                f"{path} cannot be written ({first_line(error)}): free some disk space or choose another "
                "hydra.run.dir; an earlier checkpoint there is whole"
            ) from error


class Checkpoints(L.Callback):
    """checkpoints/last.ckpt at the start (so that an unwritable folder shows before the work, not after), every so
    many steps or minutes, at the end, and when the run is interrupted. Only finite weights are saved; where a run goes
    wrong, the last good state is. Lightning's ModelCheckpoint counts optimizer steps and ignores minutes in manual
    optimization (#17958, #21699).

    config, choices: plain containers, saved along. every_n_steps: None or >= 1; every_n_minutes: None or > 0.
    """

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        choices: dict[str, str],
        monitor: Monitor,
        interruption: Interruption,
        every_n_steps: int | None,
        every_n_minutes: float | None,
    ) -> None:
        if every_n_steps is not None:
            check_int("checkpoints.every_n_steps", every_n_steps, 1)
        if every_n_minutes is not None:
            check_number("checkpoints.every_n_minutes", every_n_minutes, 0, float("inf"), brackets="()")
        self.path, self.config, self.choices = path, config, choices
        self.monitor, self.interruption = monitor, interruption
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self.saved_step = -1
        self.good: dict[str, Any] | None = None

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        self.saved_at = time.monotonic()
        if gan.step == 0:
            self.save(trainer, gan)

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        # the last step is saved from here: after it, Lightning counts a stopped epoch as a whole one
        at_the_end = 0 < trainer.max_steps <= trainer.global_step or (
            trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        )
        steps_due = self.every_n_steps is not None and gan.step % self.every_n_steps == 0
        minutes_due = gan.step % LOOK_EVERY_N_STEPS == 0 and self.minutes_due(trainer)
        number = self.interruption.number
        if at_the_end or steps_due or minutes_due or number is not None:
            self.save(trainer, gan)
        elif gan.step % REMEMBER_EVERY_N_STEPS == 0:
            self.require_finite(trainer, gan)
            self.good = copy.deepcopy(trainer._checkpoint_connector.dump_checkpoint())  # no public name for it
        if number is not None and not at_the_end:
            raise Interrupted(f"interrupted at step {gan.step}: go on with ckpt_path={self.path}", number)

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        if self.saved_step != gan.step:  # stopped by something that this class does not know
            self.save(trainer, gan)

    def on_exception(self, trainer: L.Trainer, gan: GAN, exception: BaseException) -> None:
        if isinstance(exception, NonFiniteError):
            if self.good is not None and self.good["step"] > self.saved_step:
                trainer.strategy.save_checkpoint(self.good, self.path)
                self.saved_step = self.good["step"]
            state = f"{self.path} holds the last good state, of step {self.saved_step}"
            exception.args = (f"{exception}; {state}; a lower optimizer.lr often helps",)

    def minutes_due(self, trainer: L.Trainer) -> bool:
        if self.every_n_minutes is None:
            return False
        due = time.monotonic() - self.saved_at >= 60 * self.every_n_minutes
        # clocks of ranks differ: one word for all, as saving is a collective operation
        return trainer.strategy.broadcast(due) if trainer.world_size > 1 else due

    def require_finite(self, trainer: L.Trainer, gan: GAN) -> None:
        self.monitor.look(trainer, gan)
        if not all(bool(value.isfinite().all()) for value in gan.state_dict().values()):
            raise NonFiniteError(f"training stopped: at step {gan.step} there are weights that are not finite")

    def save(self, trainer: L.Trainer, gan: GAN) -> None:
        self.require_finite(trainer, gan)
        for logger in trainer.loggers:
            logger.save()  # what is logged up to here is on disk before the checkpoint says that it was
        trainer.save_checkpoint(self.path)
        self.saved_at, self.saved_step, self.good = time.monotonic(), gan.step, None

    def on_save_checkpoint(self, trainer: L.Trainer, gan: GAN, checkpoint: dict[str, Any]) -> None:
        checkpoint["format"] = FORMAT
        checkpoint["config"] = self.config
        checkpoint["choices"] = self.choices


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The checkpoint's dict; its tensors stay on disk until they are used. Nothing in the file can run code.

    UserError where the file is missing, unreadable, or not a checkpoint of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: give the path of a run's checkpoints/last.ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged or malicious file
        raise UserError(f"{path} cannot be read as a checkpoint ({type(error).__name__}): use another copy") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this version of dcgan (format {FORMAT})")
    return checkpoint


def resumed_config(
    checkpoint: dict[str, Any], cfg: DictConfig, choices: dict[str, str], overrides: list[str]
) -> DictConfig:
    """The checkpoint's config with what the command line `overrides` may change; cfg and choices are what they make
    of today's defaults.

    UserError for an override that would change the maths; one that repeats the checkpoint's value is accepted.
    """
    saved = OmegaConf.create(checkpoint["config"])
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS):
            OmegaConf.update(saved, key, OmegaConf.select(cfg, key), merge=False, force_add=True)
            continue
        if key in choices:
            old, new = checkpoint["choices"].get(key), choices[key]
        else:
            old, new = plain(OmegaConf.select(saved, key)), plain(OmegaConf.select(cfg, key))
        if old != new:
            raise UserError(
                f"{key} cannot change when a run goes on (the checkpoint has {old!r}): leave it out, or start a new "
                "run without ckpt_path"
            )
    saved.ckpt_path = cfg.ckpt_path
    return saved


def plain(value: Any) -> Any:
    """Containers and scalars that compare by value."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
