"""Train a DCGAN: `python -m dcgan.train`; `--help` lists what can be swapped.

Only what reads the command line is imported here. Torch and Lightning take seconds, which `--help`, a mistyped option
and a finished job of a sweep should not cost. The training itself is `dcgan.training.run`.
"""

import math
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dcgan.checkpoints.safe_instantiate import trust
from dcgan.common import command
from dcgan.common.atomic_files import write_text
from dcgan.common.distributed import exit_with_sweep, has_several_processes, rank
from dcgan.common.errors import PrunedRun, UserError, explain
from dcgan.common.launcher import is_one_job, launcher_rank, reject_stale_variables
from dcgan.common.output_streams import lenient_output
from dcgan.common.overrides import reject_other_kinds, reject_unread_overrides, unquote
from dcgan.common.schema import read_json
from dcgan.runs.objective import objective_value
from dcgan.runs.run_dir import (
    FAILURE,
    SUMMARY,
    SUMMARY_SCHEMA,
    lock_run_dir,
    reject_changed_settings,
    reject_existing_checkpoints,
    remove_if_empty,
    resumes_in_place,
    run_dir_of,
)
from dcgan.runs.sweeps import name_sweep
from dcgan.training.plain_keys import check_plain_keys

# the keys of conf/train.yaml that a training reads; others only count if these refer to them
READ_KEYS = [
    *("model", "discriminator", "initialization", "loss", "penalty", "augmentation", "output.pixels"),
    *("discriminator_steps", "ema"),
    *("optimizer.discriminator", "optimizer.generator", "scheduler.discriminator", "scheduler.generator"),
    *("data", "trainer", "seed", "max_epochs", "max_steps", "samples", "evaluator", "logger", "callbacks"),
    *("cuda_graph", "ckpt_path", "init_from", "init_from_ema", "trusted", "objective"),
    *("sweep", "skip_finished", "jobs_per_gpu"),
]


def run_job(cfg: DictConfig, job: Any) -> dict[str, Any]:
    """Run one training, alone or as a job of a sweep, and return its summary.

    Args:
        cfg: conf/train.yaml with the command line's overrides.
        job: Hydra's own config.
    """
    run_dir, overrides = Path(job.runtime.output_dir), list(job.overrides.task)
    groups = [group for group in job.runtime.choices if "/" not in group and "@" not in group]
    # not those of which several options can be chosen
    choices = {group: job.runtime.choices[group] for group in groups if group not in ("logger", "callbacks")}
    reject_other_kinds(cfg, command.CONF / "train.yaml")
    reject_unread_overrides(cfg, overrides, choices, READ_KEYS)
    check_plain_keys(cfg)
    if choices["search"] and job.mode != RunMode.MULTIRUN:
        raise UserError("a search is many trainings: add -m")
    trust(cfg.trusted)
    if has_several_processes(cfg):
        reject_stale_variables(cfg.trainer.get("num_nodes", 1))
    if job.mode == RunMode.MULTIRUN:
        if has_several_processes(cfg) and not is_one_job():
            raise UserError(
                "with this launcher a job of a sweep cannot run several processes (each would start the sweep again): "
                "use trainer=gpu, or hydra/launcher=submitit_local or submitit_slurm, which start the processes"
            )
        if cfg.skip_finished:
            reject_changed_settings(run_dir, cfg, choices)
            if (run_dir / SUMMARY).exists():
                print(f"finished     {run_dir.name}")
                return read_json(run_dir / SUMMARY, SUMMARY_SCHEMA)
            cfg.ckpt_path = "auto"
    is_rank0 = rank(cfg) == 0
    # other ranks start after rank 0 has begun to write
    with lock_run_dir(run_dir) if is_rank0 else nullcontext():
        resume = None
        if cfg.ckpt_path is not None:
            from dcgan.training.resume import checkpoint_errors, find_resume_point, resumed_config

            resume = find_resume_point(cfg.ckpt_path, run_dir)
            cfg.ckpt_path = None if resume is None else str(resume.path)
        new_here = is_rank0 and not resumes_in_place(run_dir, resume.path if resume is not None else None)
        if new_here:
            reject_existing_checkpoints(run_dir)
        if resume is not None:
            if is_rank0:
                print(f"resume       {resume.path}, step {resume.step:,}")
            with checkpoint_errors(resume.path):
                cfg, choices = resumed_config(resume.checkpoint, cfg, choices, overrides)
        if new_here:  # a run that is resumed in its own folder keeps the record of how it was begun
            record = {"config": cfg, "hydra": OmegaConf.create({"hydra": job}), "overrides": job.overrides.task}
            for name, content in record.items():
                write_text(run_dir / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(content))
        from dcgan.runs.gpu_leases import lease_gpu
        from dcgan.training.run import train

        if job.mode == RunMode.MULTIRUN:  # for TensorBoard's columns, those of a search or a study, too
            cfg.sweep["keys"] = [*dict.fromkeys([*cfg.sweep["keys"], *(job.sweeper.get("params") or {})])]
        with lease_gpu(cfg, run_dir) if job.mode == RunMode.MULTIRUN else nullcontext() as gpu:
            return train(cfg, run_dir, choices, gpu, resume)


@hydra.main(version_base="1.3", config_path=str(command.CONF), config_name="train")
def task(cfg: DictConfig) -> float:
    """Return the value of the objective to Hydra's sweeper. Of a failed or pruned job it is infinity."""
    job = HydraConfig.get()
    with exit_with_sweep(), lenient_output():  # a worker of a parallel sweep does not start in `main`
        try:
            summary = run_job(cfg, job)
            return objective_value(summary, cfg.objective) if summary else math.inf
        except PrunedRun as pruned:
            print(f"pruned       {Path(job.runtime.output_dir).name}: {pruned}")
            return math.inf
        except Exception as error:
            if job.mode != RunMode.MULTIRUN or hasattr(error, "exit_code"):  # a signal stops the sweep, too
                remove_if_empty(Path(job.runtime.output_dir))
                command.fail(error)
            # the other jobs continue; SweepReport lists the failures at the end
            failure = Path(job.runtime.output_dir) / FAILURE
            reason = explain(error) or traceback.format_exc()
            print(f"failed       {failure.parent.name}: {reason.strip()}", file=sys.stderr)
            if rank(cfg) == 0:
                write_text(failure, reason)
            return math.inf


def prepare(arguments: list[str]) -> list[str]:
    """Add what Hydra must know before it creates a folder: that of a resumed run, or the name of a sweep."""
    arguments = [command.clean_override(argument) for argument in arguments]
    parsed = get_args_parser().parse_known_args(arguments)[0]
    given = {key: unquote(value) for key, _, value in (override.partition("=") for override in parsed.overrides)}
    if parsed.multirun:
        return name_sweep(arguments)
    path = given.get("ckpt_path", "null")
    if path == "auto" and "hydra.run.dir" not in given:
        raise UserError("ckpt_path=auto needs a run folder: give it with hydra.run.dir=")
    if path not in ("", "null", "auto") and not Path(path).is_file():
        raise UserError(f"there is no checkpoint {path}: give the path of a run's checkpoints/last.ckpt")
    if "hydra.run.dir" in given:
        return arguments
    if folder := run_dir_of(Path(path)):
        return [*arguments, command.clean_override(f"hydra.run.dir={folder}")]
    if launcher_rank() > 0 and has_several_processes(compose_config(parsed.overrides)):
        # this rank writes nothing; the folder of rank 0 has the time in its name, which is unknown here
        return [*arguments, "hydra.run.dir=."]
    return arguments


def compose_config(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(command.CONF), version_base="1.3"):
        return compose("train", overrides=overrides)


def main() -> None:
    def train_command() -> None:
        command.prefer_own_configs()
        sys.argv[1:] = prepare(command.group_overrides(sys.argv[1:]))
        task()

    command.run(train_command, "train")


if __name__ == "__main__":
    # by its importable name, so that the workers of a parallel sweep find the functions above
    from dcgan.train import main as imported_main

    imported_main()
