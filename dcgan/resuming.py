"""Going on where a run stopped: from which checkpoint, and with which config."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dcgan.checks import UserError, check_number, first_line
from dcgan.cli import explain
from dcgan.data import on_this_machine
from dcgan.gan import GAN
from dcgan.settings import AROUND
from dcgan.sweeps import rank
from dcgan.trusted import refuse_foreign

NOT_THE_SAME = "what comes is not, bit for bit, what it would have been"
# what a resumed run may change: how long, where, and what is written; never the maths
FREE_KEYS = (*AROUND, "max_steps", "max_epochs", "trainer", "data.on_broken", "samples.steps", "metrics")


def unfit(path: str | Path, error: Exception) -> UserError:
    """What is said of a checkpoint whose parts are there, and are not what they should be."""
    return UserError(
        f"{path} cannot be gone on from ({type(error).__name__}: {first_line(error)}): its parts do not fit together; "
        "use another checkpoint"
    )


@contextmanager
def fitting(path: str | None) -> Iterator[None]:
    """What is built in here from a checkpoint's config ends in its `unfit`, where it does not say itself what is wrong;
    path None: it is the user's own."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError, AttributeError, OmegaConfBaseException) as error:
        if path is None or explain(error) is not None:
            raise
        raise unfit(path, error) from error


def resumed_config(
    checkpoint: dict[str, Any], cfg: DictConfig, choices: dict[str, str], overrides: list[str]
) -> DictConfig:
    """The checkpoint's config with what the command line `overrides` may change; cfg and choices are what they make
    of today's defaults.

    UserError for an override that would change the maths; one that repeats the checkpoint's value is accepted.
    """
    saved = OmegaConf.create(checkpoint["config"])
    for key in FREE_KEYS:
        if "." not in key and key not in saved:  # a setting that is younger than the checkpoint
            saved[key] = cfg[key]
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
    given = {override.lstrip("+~").partition("=")[0] for override in overrides}
    precision = checkpoint["config"]["trainer"]["precision"]
    saved.trainer = cfg.trainer
    if "trainer.precision" not in given:
        saved.trainer.precision = precision
    elif saved.trainer.precision != precision and rank() == 0:
        print(f"note: {saved.trainer.precision} after {precision}: {NOT_THE_SAME}", file=sys.stderr)
    saved.data = on_this_machine(saved.data, cfg)
    if "evaluator" not in given:
        refuse_foreign(plain(saved), ["evaluator"])
    saved.ckpt_path = cfg.ckpt_path
    return saved


def plain(value: Any) -> Any:
    """Containers and scalars that compare by value."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def compare_data(saved: dict[str, str], trainer: L.Trainer) -> None:
    """Raise UserError where the training images are others than those of a checkpoint; say so where their files were
    only written since.

    saved: the checkpoint's `ImageData.fingerprint`.
    """
    now = trainer.datamodule.fingerprint
    if saved["content"] != now["content"]:
        raise UserError(
            "the training images are not those that the checkpoint was made with: give it the same data (data.root=), "
            "or start a new run without ckpt_path"
        )
    if saved != now and trainer.is_global_zero:
        print(
            "note: the files of the training images were written since the checkpoint was made, with the same names "
            f"and sizes: if they are others, {NOT_THE_SAME}",
            file=sys.stderr,
        )


def set_position(checkpoint: dict[str, Any], trainer: L.Trainer) -> None:
    """Write down anew where in its epoch a checkpoint was made, in Lightning's counters. Going on from an epoch's end,
    Lightning counts that epoch twice, and the next time it repeats one. With another number of processes, an epoch
    has another number of batches."""
    loop = checkpoint["loops"]["fit_loop"]
    batches, epochs = loop["epoch_loop.batch_progress"], loop["epoch_progress"]
    before = batches["current"]
    if before["ready"] == 0:
        return
    data = trainer.datamodule
    length = len(data.batch_indices(data.n_images))
    done = before["ready"] * checkpoint["processes"] // trainer.world_size
    done = length if batches["is_last_batch"] else min(done, length)
    # the loader may be a batch further: it has handed one out that no step was made of
    loop["state_dict"]["combined_loader"] = [{"delivered": done % length * trainer.world_size}]
    # saved at the end of a batch, which Lightning takes for completed when all callbacks are through
    batches["current"] = {"ready": done, "started": done, "processed": done, "completed": done - 1}
    over = epochs["current"]["processed"]
    for counts in epochs.values():
        counts.update(ready=over + 1, started=over + 1, processed=over, completed=over)


def set_optimizers(checkpoint: dict[str, Any], gan: GAN) -> None:
    """Put the optimizers' states into tensors like those of this run's parameters: a fused kernel believes that they
    are, and a file that says otherwise would be read and written past its end. ValueError where they do not fit."""
    saved = zip(checkpoint["optimizer_states"], (gan.discriminator, gan.generator), strict=True)
    for (state, network), optimizer in zip(saved, gan.configure_optimizers(), strict=True):
        groups, rates = optimizer.state_dict()["param_groups"], [group["lr"] for group in state["param_groups"]]
        for group, lr in zip(groups, rates, strict=True):
            check_number("lr", lr, 0, math.inf, brackets="()")
            group["lr"] = lr
        parameters = list(network.parameters())
        for i, moments in state["state"].items():
            for name in ("exp_avg", "exp_avg_sq"):
                if moments[name].shape != parameters[i].shape:
                    raise ValueError(f"{name} has the shape {tuple(moments[name].shape)}")
                moments[name] = torch.empty_like(parameters[i], device="cpu").detach().copy_(moments[name])
            moments["step"] = torch.tensor(float(moments["step"]))
        state["param_groups"] = groups
