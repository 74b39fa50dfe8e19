"""Going on where a run stopped: from which checkpoint, and with which config."""

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcgan.checks import UserError
from dcgan.trained import FORMAT, read_checkpoint

# what a resumed run may change: how long, where, and what is written; never the maths
FREE_KEYS = (
    "max_steps",
    "max_epochs",
    "trainer",
    "data.root",
    "data.workers",
    "data.on_broken",
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


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The whole checkpoint of a run folder that is furthest on, those that Lightning writes for SLURM included; None
    where there is none at all. Damaged ones are named on stderr.

    UserError where there are some and none is whole: a new run would write over what may still be of use.
    """
    found = [*(run_dir / "checkpoints").glob("*.ckpt"), *run_dir.glob("hpc_ckpt_*.ckpt")]
    steps: dict[Path, int] = {}
    for path in sorted(found, key=lambda path: path.name != "last.ckpt"):  # the first one of those with the same step
        try:
            steps[path] = read_checkpoint(path)["step"]
        except UserError as error:
            print(f"note: {error}", file=sys.stderr)
    if found and not steps:
        raise UserError(f"no checkpoint in {run_dir} can be read: start anew in another hydra.run.dir")
    return max(steps, key=lambda path: steps[path], default=None)


def read_resumed(path: str | Path) -> dict[str, Any]:
    """A checkpoint that a training can go on from. UserError where images can be drawn from it at best."""
    checkpoint = read_checkpoint(path)
    if checkpoint["format"] != FORMAT:
        raise UserError(
            f"{path} is of an older version of dcgan (format {checkpoint['format']}, now {FORMAT}): images can be "
            "drawn from it, but its training cannot go on; start a new run"
        )
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
