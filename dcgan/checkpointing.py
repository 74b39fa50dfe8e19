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

from dcgan.callbacks import Monitor, at_the_end
from dcgan.checks import NonFiniteError, UserError, check_int, check_number, first_line
from dcgan.files import atomic_path
from dcgan.gan import GAN
from dcgan.health import Health, Unhealthy
from dcgan.interruption import Interrupted, Interruption
from dcgan.trained import FORMAT
from dcgan.validation import Validation

BEST = "best.ckpt"
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
    "evaluator",
    "metrics",
    "health",
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
        if every_n_steps is not None:
            check_int("checkpoints.every_n_steps", every_n_steps, 1)
        if every_n_minutes is not None:
            check_number("checkpoints.every_n_minutes", every_n_minutes, 0, float("inf"), brackets="()")
        self.path, self.config, self.choices = path, config, choices
        self.monitor, self.validation, self.health, self.interruption = monitor, validation, health, interruption
        self.every_n_steps, self.every_n_minutes = every_n_steps, every_n_minutes
        self.saved_step = -1
        self.good: dict[str, Any] | None = None

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        self.saved_at = time.monotonic()
        if not self.path.with_name(BEST).exists():  # a run that goes on elsewhere left its best one behind
            self.validation.best = float("inf")
        if gan.step == 0:
            self.save(trainer, gan)

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if self.validation.best_step == gan.step:
            self.require_finite(trainer, gan)
            trainer.save_checkpoint(self.path.with_name(BEST))
        # the last step is saved from here: after it, Lightning counts a stopped epoch as a whole one
        last = at_the_end(trainer)
        steps_due = self.every_n_steps is not None and gan.step % self.every_n_steps == 0
        minutes_due = gan.step % LOOK_EVERY_N_STEPS == 0 and self.minutes_due(trainer)
        number = self.interruption.number
        verdict = self.health.verdict
        if last or steps_due or minutes_due or number is not None or verdict is not None:
            self.save(trainer, gan)
        elif gan.step % REMEMBER_EVERY_N_STEPS == 0:
            self.require_finite(trainer, gan)
            self.good = copy.deepcopy(trainer._checkpoint_connector.dump_checkpoint())  # no public name for it
        if number is not None and not last:
            raise Interrupted(f"interrupted at step {gan.step}: go on with ckpt_path={self.path}", number)
        if verdict is not None and not last:
            raise Unhealthy(f"stopped at step {gan.step}, because {verdict}; {self.path} holds its state")

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
        checkpoint["dataset"] = trainer.datamodule.dataset_name


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
