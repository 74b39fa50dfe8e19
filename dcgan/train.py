"""Train a DCGAN: `python -m dcgan.train`, `--help` for what can be swapped.

Only what reads the command line is imported up here: torch and lightning take seconds, which `--help`, a mistyped
option and a finished job of a sweep should not cost.
"""

import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from dcgan import cli
from dcgan.checks import UserError, check_int
from dcgan.sweeps import FAILURE, name_sweep


def train(cfg: DictConfig, run_dir: Path, choices: dict[str, str], gpu: int | None = None) -> dict[str, Any]:
    """Run one training into `run_dir` and return its summary (empty on the other ranks of several).

    choices: the chosen option of each config group; gpu: the only one to use, None: as the trainer says.
    UserError and ValueError for what cannot work; whatever the checkpoint says wins over cfg (see
    `dcgan.checkpointing.resumed_config`).
    """
    import logging
    import warnings

    import lightning as L
    import torch
    from rich.console import Console

    from dcgan import callbacks, checkpointing, loggers, progress, report
    from dcgan.gan import GAN

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what it announces stands in our own summary
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # lightning 2.6 on torch 2.15
    warnings.filterwarnings("ignore", message="Found .* in eval mode")  # the average of the weights: it is meant so
    if cfg.max_steps is not None:
        check_int("max_steps", cfg.max_steps, 1)
    else:
        check_int("max_epochs", cfg.max_epochs, 1)
    check_int("seed", cfg.seed, 0)
    config: Any = {**cast(dict, OmegaConf.to_container(cfg, resolve=True)), "ckpt_path": None}
    step = checkpointing.read_checkpoint(cfg.ckpt_path)["step"] if cfg.ckpt_path else 0
    refuse_occupied(run_dir, cfg.ckpt_path)

    L.seed_everything(cfg.seed, verbose=False)  # the weights' initialisation
    gan = GAN(
        generator=instantiate(cfg.model),
        discriminator=instantiate(cfg.discriminator),
        loss=instantiate(cfg.loss),
        discriminator_optimizer=instantiate(cfg.optimizer.discriminator),
        generator_optimizer=instantiate(cfg.optimizer.generator),
        pixels=instantiate(cfg.output.pixels),
        penalty=instantiate(cfg.penalty),
        discriminator_steps=cfg.discriminator_steps,
        ema_decay=cfg.ema.decay,
        seed=cfg.seed,
        fixed_n=cfg.samples.n,
    )
    data = instantiate(cfg.data)

    console = Console(soft_wrap=True, stderr=False)
    monitor = callbacks.Monitor(cfg.log.every_n_steps)
    samples = callbacks.Samples(run_dir, cfg.samples.steps)
    tensorboard = loggers.tensorboard(run_dir, step)
    final = report.Report(run_dir, tensorboard, monitor, config, choices)
    last = run_dir / "checkpoints" / "last.ckpt"
    trainer: L.Trainer = instantiate(cfg.trainer, _partial_=True, _convert_="all")(
        **({"devices": [gpu]} if gpu is not None else {}),
        max_steps=cfg.max_steps * gan.optimizer_steps_per_step if cfg.max_steps is not None else -1,
        max_epochs=-1 if cfg.max_steps is not None else cfg.max_epochs,
        callbacks=[
            monitor,
            callbacks.Activity(cfg.log.activity_every_n_steps),
            samples,
            progress.ProgressBar(console, monitor),
            checkpointing.Checkpoints(last, config, choices, **cfg.checkpoints),
            final,
        ],
        logger=[tensorboard, loggers.CSVMetrics(run_dir / "metrics.csv", step)],
        plugins=[checkpointing.AtomicCheckpointIO()],
        default_root_dir=run_dir,
        log_every_n_steps=0,  # the callbacks log by themselves
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    if trainer.strategy.root_device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    if trainer.is_global_zero:
        progress.print_summary(console, gan, choices, trainer, run_dir)
    trainer.fit(gan, datamodule=data, ckpt_path=cfg.ckpt_path, weights_only=True)

    if trainer.is_global_zero:
        progress.print_outcome(console, run_dir, samples.latest, gan.step)
    return final.summary


def refuse_occupied(run_dir: Path, ckpt_path: str | None) -> None:
    """A new run must not write over another one's checkpoints."""
    first_process = os.environ.get("LOCAL_RANK", "0") == "0"  # the others may come when it has begun to write
    if ckpt_path is None and first_process and any((run_dir / "checkpoints").glob("*.ckpt")):
        raise UserError(
            f"{run_dir} already holds checkpoints: go on with ckpt_path={run_dir}/checkpoints/last.ckpt (in a sweep: "
            "skip_finished=true), or choose another hydra.run.dir"
        )


def resume(cfg: DictConfig, overrides: list[str], choices: dict[str, str]) -> tuple[DictConfig, dict[str, str]]:
    """The config and the choices of the checkpoint that cfg.ckpt_path names, with what `overrides` may change."""
    from dcgan.checkpointing import read_checkpoint, resumed_config

    checkpoint = read_checkpoint(cfg.ckpt_path)
    groups = {override.partition("=")[0] for override in overrides} & set(choices)
    overridden = {group: choices[group] for group in groups}
    return resumed_config(checkpoint, cfg, overrides), checkpoint["choices"] | overridden


def run_job(cfg: DictConfig, job: Any) -> None:
    """One training of the command line, alone or as a job of a sweep; `job` is Hydra's own config."""
    run_dir = Path(job.runtime.output_dir)
    choices = {group: option for group, option in job.runtime.choices.items() if not re.search("hydra/|@", group)}
    gpu = None
    if job.mode == RunMode.MULTIRUN:
        if "ddp" in str(cfg.trainer.strategy):
            raise UserError(
                "a sweep cannot run several processes a job (each would start the whole sweep again): use "
                "trainer=gpu with -m, or run the jobs one by one without -m"
            )
        if cfg.skip_finished and (run_dir / "summary.json").exists():
            print(f"finished     {run_dir.name}")
            return
        last = run_dir / "checkpoints" / "last.ckpt"
        if cfg.skip_finished and last.exists():
            cfg.ckpt_path = str(last)
        gpu = gpu_of_job(cfg, job.job.num)
    if cfg.ckpt_path is not None:
        cfg, choices = resume(cfg, list(job.overrides.task), choices)
        if job.output_subdir is not None:
            OmegaConf.save(cfg, run_dir / job.output_subdir / "config.yaml")
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
    if job.mode != RunMode.MULTIRUN:
        try:
            run_job(cfg, job)
        except Exception as error:
            cli.fail(error)
        return
    failure = Path(job.runtime.output_dir) / FAILURE
    failure.unlink(missing_ok=True)
    try:
        run_job(cfg, job)
    except Exception as error:  # the other jobs go on; SweepReport tells at the end
        failure.write_text(cli.explain(error) or traceback.format_exc())
        print(f"failed       {failure.parent.name}: {failure.read_text().strip()}", file=sys.stderr)


def prepare(arguments: list[str]) -> list[str]:
    """The command line with what Hydra must know before it makes a folder: a resumed run's own one, a sweep's name."""
    if {"-m", "--multirun"} & set(arguments):
        return name_sweep(arguments)
    given = {argument.partition("=")[0]: argument.partition("=")[2] for argument in arguments}
    checkpoint = Path(given.get("ckpt_path", "").strip("'\""))
    if checkpoint.parent.name == "checkpoints" and "hydra.run.dir" not in given:
        # its .hydra stays what it was: the record of how the run began
        return [*arguments, f"hydra.run.dir='{checkpoint.parent.parent}'", "hydra.output_subdir=null"]
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
