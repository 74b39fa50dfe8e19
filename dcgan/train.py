"""Train a DCGAN: `python -m dcgan.train`, `--help` for what can be swapped.

Only what reads the command line is imported up here: torch and lightning take seconds, which `--help`, a mistyped
option and a finished job of a sweep should not cost. The training itself is `dcgan.training`.
"""

import sys
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dcgan import cli
from dcgan.checks import UserError
from dcgan.files import write_text
from dcgan.output import lenient_output
from dcgan.run_folder import (
    FAILURE,
    SUMMARY,
    folder_of,
    goes_on_in,
    newest_checkpoint,
    refuse_occupied,
    refuse_other_settings,
    refuse_to_go_back,
    sole_owner,
)
from dcgan.sweeps import add_overrides, bound_to_sweep, name_sweep, rank, several_processes

AUTO = "auto"  # ckpt_path: the newest checkpoint of the run folder, a new run where there is none


def resume(cfg: DictConfig, overrides: list[str], choices: dict[str, str]) -> tuple[DictConfig, dict[str, str]]:
    """The config and the choices of the checkpoint that cfg.ckpt_path names, with what `overrides` may change."""
    from dcgan.resuming import fitting, resumed_config
    from dcgan.trained import read_checkpoint

    checkpoint = read_checkpoint(cfg.ckpt_path)
    groups = {override.partition("=")[0] for override in overrides} & set(choices) | {"trainer"}
    overridden = {group: choices[group] for group in groups}
    with fitting(cfg.ckpt_path):
        return resumed_config(checkpoint, cfg, choices, overrides), checkpoint["choices"] | overridden


def run_job(cfg: DictConfig, job: Any) -> None:
    """One training of the command line, alone or as a job of a sweep; `job` is Hydra's own config."""
    run_dir = Path(job.runtime.output_dir)
    choices = {group: choice for group, choice in job.runtime.choices.items() if "/" not in group and "@" not in group}
    gpu = None
    if job.mode == RunMode.MULTIRUN:
        if several_processes(cfg):
            raise UserError(
                "a sweep cannot run several processes a job (each would start the whole sweep again): use "
                "trainer=gpu with -m, or run the jobs one by one without -m"
            )
        if cfg.skip_finished:
            refuse_other_settings(run_dir, cfg, choices)
            if (run_dir / SUMMARY).exists():
                print(f"finished     {run_dir.name}")
                return
            cfg.ckpt_path = AUTO
        gpu = gpu_of_job(cfg, job.job.num)
    # other processes may come when the first one has begun to write
    with sole_owner(run_dir) if rank() == 0 else nullcontext():
        if cfg.ckpt_path == AUTO:
            newest = newest_checkpoint(run_dir)
            cfg.ckpt_path = None if newest is None else str(newest)
            if newest is not None and rank() == 0:
                print(f"goes on from {newest}")
        new_here = rank() == 0 and not goes_on_in(run_dir, cfg.ckpt_path)
        if new_here:
            refuse_occupied(run_dir)
        elif rank() == 0 and Path(cfg.ckpt_path).name != "last.ckpt":
            refuse_to_go_back(run_dir, Path(cfg.ckpt_path))
        if cfg.ckpt_path is not None:
            cfg, choices = resume(cfg, list(job.overrides.task), choices)
        if new_here:  # a run that goes on in its own folder keeps the record of how it began
            record = {"config": cfg, "hydra": OmegaConf.create({"hydra": job}), "overrides": job.overrides.task}
            for name, content in record.items():
                write_text(run_dir / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(content))
        from dcgan.training import train

        train(cfg, run_dir, choices, gpu)


def gpu_of_job(cfg: DictConfig, number: int) -> int | None:
    """Jobs of a sweep take turns on the GPUs where there are several."""
    import torch

    gpus = torch.cuda.device_count()
    one_gpu = cfg.trainer.devices == 1 and cfg.trainer.accelerator in ("auto", "gpu")
    return number % gpus if gpus > 1 and one_gpu else None


@hydra.main(version_base="1.3", config_path=str(cli.CONF), config_name="train")
def task(cfg: DictConfig) -> None:
    job = HydraConfig.get()
    with bound_to_sweep(), lenient_output():  # a parallel sweep's processes do not begin in `main`
        try:
            run_job(cfg, job)
        except Exception as error:
            if job.mode != RunMode.MULTIRUN or hasattr(error, "exit_code"):  # interrupted: so is the sweep
                cli.fail(error)
            # the other jobs go on; SweepReport tells at the end
            failure = Path(job.runtime.output_dir) / FAILURE
            reason = cli.explain(error) or traceback.format_exc()
            print(f"failed       {failure.parent.name}: {reason.strip()}", file=sys.stderr)
            write_text(failure, reason)


def prepare(arguments: list[str]) -> list[str]:
    """The command line with what Hydra must know before it makes a folder: a resumed run's own one, a sweep's name.
    Paths are quoted, for the folders of a sweep have "=" in their names."""
    parsed = get_args_parser().parse_known_args(arguments)[0]
    given = {key: value.strip("'\"") for key, _, value in (override.partition("=") for override in parsed.overrides)}
    arguments = [cli.quoted(argument) for argument in arguments]
    if parsed.multirun:
        return name_sweep(arguments)
    path = given.get("ckpt_path", "null")
    if path == AUTO and "hydra.run.dir" not in given:
        raise UserError("ckpt_path=auto looks into a run folder: say which one with hydra.run.dir=")
    if path not in ("", "null", AUTO) and not Path(path).is_file():
        raise UserError(f"there is no checkpoint {path}: give the path of a run's checkpoints/last.ckpt")
    if "hydra.run.dir" in given:
        return arguments
    if folder := folder_of(Path(path)):
        return add_overrides(arguments, [cli.quoted(f"hydra.run.dir={folder}")])
    if rank() > 0:  # writes nothing; the first process's folder has the time in its name, which is not known here
        return add_overrides(arguments, ["hydra.run.dir=."])
    return arguments


def main() -> None:
    def command() -> None:
        sys.argv[1:] = prepare(sys.argv[1:])
        task()

    cli.run(command)


if __name__ == "__main__":
    # by its importable name, so that the processes of a parallel sweep find the functions above
    from dcgan.train import main as imported_main

    imported_main()
