"""Evaluate generated images: `python -m dcgan.evaluate checkpoint=CKPT` or `samples=FILE.npy`.

Heavy imports are inside the function, so that command-line errors are reported at once.
"""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dcgan.checkpoints.safe_instantiate import trust
from dcgan.common import command


def run_evaluation(cfg: DictConfig) -> None:
    from dcgan.evaluation.run import evaluate

    trust(cfg.trusted)
    job: Any = HydraConfig.get()
    evaluate(cfg, Path(job.runtime.output_dir), list(job.overrides.task), job.runtime.choices.data)


def prepare_arguments(arguments: list[str]) -> list[str]:
    """Add the checkpoint's folder as the run folder, and replace probe=true."""
    arguments = ["probe=linear" if argument == "probe=true" else argument for argument in arguments]
    for argument in arguments:
        key, _, value = argument.partition("=")
        path = Path(value.strip("'\""))
        if key == "checkpoint" and path.is_file() and not any(a.startswith("hydra.run.dir=") for a in arguments):
            return [*arguments, f"hydra.run.dir={path.parent}"]
    return arguments


def main() -> None:
    command.main("evaluate", run_evaluation, prepare_arguments)


if __name__ == "__main__":
    main()
