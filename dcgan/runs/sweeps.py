"""Sweeps (Hydra's multirun): the folder names of their jobs, and the report of failed jobs."""

import hashlib
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dcgan.runs.run_dir import FAILURE, JOURNAL

MAX_NAME_LENGTH = 120  # file systems allow 255 bytes


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def job_name(overrides: list[str], swept_keys: Iterable[str], params: dict[str, Any] | None = None) -> str:
    """Return a folder name: a job's swept overrides, shortened and hashed if they are long or not path-safe.

    Args:
        overrides: All overrides of the job.
        swept_keys: Keys swept on the command line.
        params: hydra.sweeper.params, whose keys are swept, too.
    """
    keys = {*swept_keys, *(params or {})}
    name = ",".join(override for override in overrides if override.partition("=")[0] in keys) or "single"
    safe = re.sub(r"[^\w.,=+-]", "_", name)
    if safe == name and len(name) <= MAX_NAME_LENGTH:
        return name
    return f"{safe[:MAX_NAME_LENGTH]}-{short_hash(name)}"


def multiply(factor: Any, value: Any) -> Any:
    """Return factor * value, or a value that is not a number unchanged, for its reader to reject."""
    return factor * value if isinstance(value, int | float) else value


def half_life_decay(half_life: float, batch_size: int) -> float:
    """Return the decay per step of an average with this half-life in images."""
    return 0.5 ** (batch_size / half_life)


def is_null(value: Any) -> bool:
    return value is None


def gpus_per_node(accelerator: str, devices: Any) -> Any:
    """Return how many GPUs a trainer uses on each node. None: it runs without one, too."""
    return devices if accelerator in ("gpu", "cuda") else None


# used in conf and experiments
OmegaConf.register_new_resolver("job_name", job_name, replace=True)
OmegaConf.register_new_resolver("mul", multiply, replace=True)
OmegaConf.register_new_resolver("half_life", half_life_decay, replace=True)
OmegaConf.register_new_resolver("is_null", is_null, replace=True)
OmegaConf.register_new_resolver("gpus", gpus_per_node, replace=True)


def name_sweep(arguments: list[str]) -> list[str]:
    """Return the arguments of a multirun with the overrides that name its folders.

    `sweep.keys` are the swept keys, for the names of the jobs. `sweep.hash` is the default of `sweep.name`: a hash of
    the command, so that the same command finds its folder again.
    """
    parsed = get_args_parser().parse_known_args(arguments)[0]
    overrides = OverridesParser.create().parse_overrides(parsed.overrides)
    swept_keys = [o.get_key_element() for o in overrides if o.is_sweep_override()]
    not_hashed = re.compile(r"(skip_finished|jobs_per_gpu)$|hydra[./]")
    hashed = sorted(str(o.input_line) for o in overrides if not not_hashed.match(o.get_key_element()))
    text = " ".join(filter(None, [parsed.config_dir, parsed.config_name, *hashed]))
    keys = f"sweep.keys={swept_keys}".replace("'", "").replace(" ", "")
    # in quotes, as 12e34567 would be read as infinity
    return [*arguments, keys, f"sweep.hash='{short_hash(text)}'"]


def count_jobs(config: DictConfig) -> int | None:
    """Return the number of jobs of a sweep, None if it is unknown: only Hydra can list the options of a glob()."""
    sweeper = config.hydra.sweeper
    if "n_trials" in sweeper:  # of a search
        return sweeper.n_trials
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task])
    last = {override.get_key_element(): override for override in overrides}  # the command line wins
    try:
        return math.prod(len(list(o.sweep_iterator())) for o in last.values() if o.is_sweep_override())
    except HydraException:
        return None


class SweepReport(Callback):
    """A callback that announces each job of a sweep, and at its end reports the failed ones.

    They leave the reason in failure.txt. In a search, failed jobs are a result, which its sweeper reports, and they do
    not run again.
    """

    n_jobs: int | None = None  # of the sweep; None: unknown

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            total = "" if self.n_jobs is None else f" of {self.n_jobs}"
            print(f"job          {config.hydra.job.num + 1}{total}: {Path(config.hydra.runtime.output_dir).name}")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.n_jobs = count_jobs(config)
        if (Path(config.hydra.sweep.dir) / JOURNAL).exists():
            return
        for failure in Path(config.hydra.sweep.dir).glob(f"*/{FAILURE}"):
            failure.unlink()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        failures = [] if (folder / JOURNAL).exists() else sorted(folder.glob(f"*/{FAILURE}"))
        print(f"sweep        {folder}; compare its jobs with tensorboard --logdir {folder}")
        if failures:
            for failure in failures:
                print(f"failed       {failure.parent.name}: {failure.read_text().strip()}", file=sys.stderr)
            sys.exit(1)
