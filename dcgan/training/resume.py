"""Resume a run, from top to bottom: find the checkpoint, read and verify it once, merge its config with the command
line's, and restore data position, optimizers and counters."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dcgan.checkpoints.io import name_file, read_checkpoint
from dcgan.checkpoints.networks import check_network, strip_prefix
from dcgan.checkpoints.safe_instantiate import PACKAGES, reject_untrusted, use_local_data_keys
from dcgan.common.config_tree import is_within
from dcgan.common.distributed import rank
from dcgan.common.errors import UserError, explain, first_line
from dcgan.common.overrides import override_key
from dcgan.models.discriminator import BaseDiscriminator
from dcgan.models.generator import BaseGenerator
from dcgan.runs.config_diff import COMMAND_LINE_KEYS, IGNORED_ON_RESUME, learning_rates
from dcgan.runs.run_dir import list_checkpoints, resumes_in_place

if TYPE_CHECKING:  # reading the command line must not import Lightning
    import lightning as L

    from dcgan.gan import GAN

AUTO = "auto"  # ckpt_path: the newest checkpoint of the run folder, or a new run if there is none
NOT_BIT_EXACT = "the run is no longer bit-identical to an uninterrupted one"
LR_KEYS = {
    "optimizer.lr": ("discriminator", "generator"),
    "optimizer.discriminator.lr": ("discriminator",),
    "optimizer.generator.lr": ("generator",),
}
# how long, where, what is written, and learning rates may change; the rest of the maths may not
FREE_KEYS = (
    *COMMAND_LINE_KEYS,
    *IGNORED_ON_RESUME,
    *("max_steps", "max_epochs", "data.on_broken", "samples.steps", "metrics"),
)

OUTPUT_SECTIONS = ("log", "samples", "metrics", "health", "checkpoints")  # read by callbacks


@dataclass(frozen=True)
class ResumePoint:
    """A verified checkpoint, and the file that it was read from."""

    path: Path
    checkpoint: dict[str, Any]

    @property
    def step(self) -> int:
        return self.checkpoint["step"]


# --- find, read and verify


def find_resume_point(ckpt_path: str | None, run_dir: Path) -> ResumePoint | None:
    """Return the checkpoint that a run starts from, None for a new run.

    Args:
        ckpt_path: A checkpoint; "auto" for the newest valid one in `run_dir`; None for a new run.
        run_dir: The folder that the run writes to.

    Raises:
        UserError: The checkpoint is missing or damaged, or `run_dir` holds a later one, which would be overwritten.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == AUTO:
        return newest_checkpoint(run_dir)
    point = ResumePoint(Path(ckpt_path), read_checkpoint(ckpt_path))
    if resumes_in_place(run_dir, point.path) and point.path.name != "last.ckpt":
        newest = newest_checkpoint(run_dir) or point
        if newest.step > point.step:
            raise UserError(
                f"{newest.path} is at a later step ({newest.step}) than {point.path} ({point.step}): resume from that "
                "one, or from this one with another hydra.run.dir"
            )
    return point


def newest_checkpoint(run_dir: Path) -> ResumePoint | None:
    """Return the valid checkpoint with the highest step, None if there are no checkpoints. Damaged ones are reported.

    Raises:
        UserError: No checkpoint is valid. A new run would overwrite what may still be of use.
    """
    paths, valid = list_checkpoints(run_dir), []
    for path in paths:
        try:
            valid.append(ResumePoint(path, read_checkpoint(path)))
        except UserError as error:
            print(f"note: {error}", file=sys.stderr)
    if paths and not valid:
        raise UserError(f"no checkpoint in {run_dir} can be read: start a new run in another hydra.run.dir")
    return max(valid, key=lambda point: point.step, default=None)


# --- merge the config


def resumed_config(
    checkpoint: dict[str, Any], cfg: DictConfig, choices: dict[str, str], overrides: list[str]
) -> tuple[DictConfig, dict[str, str]]:
    """Return the config and the choices of a resumed run.

    What defines the maths comes from the checkpoint. The trainer (but for its precision), loggers, callbacks, the
    data's folder and what the command line overrides come from `cfg`.

    Args:
        checkpoint: The verified checkpoint.
        cfg: The command line's config.
        choices: The command line's option of each config group.
        overrides: The command line's overrides.

    Raises:
        UserError: An override would change the maths (one that repeats the checkpoint's value is accepted), or the
            checkpoint's config names a class that it may not.
    """
    saved = OmegaConf.create(checkpoint["config"])
    for key in cfg:
        if key in COMMAND_LINE_KEYS or key not in saved:  # or the user's own, for callbacks and loggers
            saved[key] = cfg[key]
        elif key in OUTPUT_SECTIONS and OmegaConf.is_dict(saved[key]):  # the checkpoint may be older than an option
            saved[key] = OmegaConf.merge(cfg[key], saved[key])
    given = {override_key(override): override for override in overrides}
    for key in given:
        if is_within(key, FREE_KEYS):
            OmegaConf.update(saved, key, OmegaConf.select(cfg, key), merge=False, force_add=True)
        elif key not in LR_KEYS:
            reject_change(key, checkpoint, saved, cfg, choices)
    change_learning_rates(saved, cfg, given)

    precision = checkpoint["config"]["trainer"]["precision"]
    if "trainer.precision" not in given or saved.trainer.precision == "auto":
        saved.trainer.precision = precision
    elif saved.trainer.precision != precision:
        note(rank(cfg) == 0, f"{saved.trainer.precision} after {precision}")
    saved.data = use_local_data_keys(saved.data, cfg)
    reject_untrusted(checkpoint["config"], [key for key in PACKAGES if key not in given])
    overridden = {group: choices[group] for group in {*given, *COMMAND_LINE_KEYS} & set(choices)}
    return saved, checkpoint["choices"] | overridden


def reject_change(
    key: str, checkpoint: dict[str, Any], saved: DictConfig, cfg: DictConfig, choices: dict[str, str]
) -> None:
    """Raise UserError unless the command line repeats the checkpoint's value of the key."""
    if key in choices:
        old, new = checkpoint["choices"].get(key), choices[key]
    else:
        old, new = to_plain(OmegaConf.select(saved, key)), to_plain(OmegaConf.select(cfg, key))
    if old != new:
        raise UserError(
            f"{key} cannot change when a run is resumed (the checkpoint has {old!r}): leave it out, or start a new run "
            "without ckpt_path"
        )


def change_learning_rates(saved: DictConfig, cfg: DictConfig, given: dict[str, str]) -> None:
    """Apply the command line's learning rates to the checkpoint's config, and report a change.

    optimizer.lr scales the rates of both networks, which keeps their ratio.
    """
    before = learning_rates(saved)
    if "optimizer.lr" in given:
        factor = cfg.optimizer.lr / saved.optimizer.lr
        saved.optimizer.lr = cfg.optimizer.lr
        for name, lr in before.items():
            saved.optimizer[name].lr = lr * factor
    for name in before:
        if f"optimizer.{name}.lr" in given:
            saved.optimizer[name].lr = cfg.optimizer[name].lr
    changes = [f"{n} {lr:g} -> {saved.optimizer[n].lr:g}" for n, lr in before.items() if saved.optimizer[n].lr != lr]
    if changes:
        note(rank(cfg) == 0, f"learning rates change ({', '.join(changes)})")


def note(is_rank0: bool, change: str) -> None:
    if is_rank0:
        print(f"note: {change}: {NOT_BIT_EXACT}", file=sys.stderr)


def to_plain(value: Any) -> Any:
    """Return containers and scalars that compare by value."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def check_networks(point: ResumePoint) -> None:
    """Raise UserError, before anything is built, unless the checkpoint's config describes networks of its weights."""
    weights = point.checkpoint["state_dict"]
    with name_file(point.path):
        check_network(point.checkpoint, "model", BaseGenerator, strip_prefix(weights, "generator."))
        check_network(point.checkpoint, "discriminator", BaseDiscriminator, strip_prefix(weights, "discriminator."))


# --- restore the training


def restore_training(checkpoint: dict[str, Any], trainer: "L.Trainer", gan: "GAN") -> None:
    """Restore step, statistics, data position and optimizers from a checkpoint that Lightning is about to load.

    Raises:
        UserError: The training images are not those of the checkpoint.
        ValueError: Its states of optimizers or schedulers do not fit this run.
    """
    from dcgan.training.lightning_internals import restore_loop_progress
    from dcgan.training.optimizer_states import restore_optimizer_states
    from dcgan.training.rank_buffers import load_buffers

    data, processes = trainer.datamodule, checkpoint["processes"]  # type: ignore[attr-defined]
    check_same_data(checkpoint, trainer)
    gan.step = checkpoint["step"]
    load_buffers(trainer, gan, checkpoint)
    n_batches = len(data.batch_sampler(data.n_images))
    restore_loop_progress(checkpoint["loops"], processes, trainer, n_batches, checkpoint["stopped"])
    restore_optimizer_states(checkpoint, gan)
    if processes != trainer.world_size:
        now = "1 process" if trainer.world_size == 1 else f"{trainer.world_size} processes"
        note(trainer.is_global_zero, f"{now} after {processes}")
    device = trainer.strategy.root_device.type
    if checkpoint.get("device", device) != device:  # it has other random numbers
        note(trainer.is_global_zero, f"{device} after {checkpoint['device']}")


def check_same_data(checkpoint: dict[str, Any], trainer: "L.Trainer") -> None:
    """Raise UserError if the training images are not those of the checkpoint."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    if checkpoint["images"] != data.n_images:
        raise UserError(
            f"the checkpoint was made with {checkpoint['images']:,} training images, now there are {data.n_images:,}: "
            "give it the same data (data.root=)"
        )
    if checkpoint["fingerprint"] != data.fingerprint:
        raise UserError(
            "the training images are not those that the checkpoint was made with: give it the same data (data.root=), "
            "or start a new run without ckpt_path"
        )


# --- errors


def incompatible_checkpoint(path: str | Path, error: Exception) -> UserError:
    """Return the error for a checkpoint that is complete but inconsistent."""
    return UserError(
        f"cannot resume from {path}: the checkpoint is inconsistent ({type(error).__name__}: {first_line(error)}); use "
        "another one"
    )


@contextmanager
def checkpoint_errors(path: str | Path | None) -> Iterator[None]:
    """Within the context, errors of objects that are built from a checkpoint's config become `incompatible_checkpoint`.

    Args:
        path: The checkpoint; None if the config is the user's own.
    """
    try:
        yield
    except (RuntimeError, KeyError, TypeError, AttributeError, OmegaConfBaseException) as error:
        if path is None or explain(error) is not None:
            raise
        raise incompatible_checkpoint(path, error) from error
