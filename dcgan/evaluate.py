"""Put figures on a generator's images: `python -m dcgan.evaluate checkpoint=CKPT` or `samples=FILE.npy`.

Only what reads the command line is imported up here; the evaluation itself is `dcgan.evaluation`.
"""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dcgan import cli
from dcgan.sweeps import add_overrides


def act(cfg: DictConfig) -> None:
    from dcgan.evaluation import evaluate

    job: Any = HydraConfig.get()
    evaluate(cfg, Path(job.runtime.output_dir), list(job.overrides.task), job.runtime.choices.data)


def prepare(arguments: list[str]) -> list[str]:
    """A checkpoint's evaluation goes beside it, not into a folder of its own."""
    arguments = ["probe=linear" if argument == "probe=true" else argument for argument in arguments]
    for argument in arguments:
        key, _, value = argument.partition("=")
        path = Path(value.strip("'\""))
        if key == "checkpoint" and path.is_file() and not any(a.startswith("hydra.run.dir=") for a in arguments):
            return add_overrides(arguments, [f"hydra.run.dir={path.parent}"])
    return arguments


def main() -> None:
    cli.main("evaluate", act, prepare)


if __name__ == "__main__":
    main()
