"""Sweeps: where each job goes, and which of them failed."""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

FAILURE = "failure.txt"
LONGEST_NAME = 120  # file systems stop at 255


def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def job_name(overrides: list[str], swept: list[str]) -> str:
    """A folder name made of a job's swept keys and values, cut with a hash where it is long or not path-safe."""
    name = ",".join(override for override in overrides if override.partition("=")[0] in swept)
    safe = re.sub(r"[^\w.,=+-]", "_", name)
    if safe == name and len(name) <= LONGEST_NAME:
        return name
    return f"{safe[:LONGEST_NAME]}-{short_hash(name)}"


OmegaConf.register_new_resolver("job_name", job_name, replace=True)


def name_sweep(arguments: list[str]) -> list[str]:
    """The arguments of a multirun with the overrides that tell its jobs where to go: `sweep.keys`, and `sweep.name`
    where the user has not set it: a hash of the command, so that the same command finds its folder again."""
    overrides = OverridesParser.create().parse_overrides([a for a in arguments if not a.startswith("-")])
    swept = [o.get_key_element() for o in overrides if o.is_sweep_override()]
    added = [f"sweep.keys={swept}".replace("'", "").replace(" ", "")]
    if not any(o.get_key_element() == "sweep.name" for o in overrides):
        counted = [o for o in overrides if not re.match(r"skip_finished$|hydra[./]", o.get_key_element())]
        added.append(f"sweep.name={short_hash(' '.join(sorted(str(o.input_line) for o in counted)))}")
    return arguments + added


class SweepReport(Callback):
    """Ends a sweep with what failed: jobs leave their reason in failure.txt, so those of other processes count too."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        failures = sorted(folder.glob(f"*/{FAILURE}"))
        print(f"sweep        {folder}; compare its jobs with tensorboard --logdir {folder}")
        if failures:
            for failure in failures:
                print(f"failed       {failure.parent.name}: {failure.read_text().strip()}", file=sys.stderr)
            sys.exit(1)
