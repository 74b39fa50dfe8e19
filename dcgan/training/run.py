"""From a config to a finished run."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from dcgan.checkpoints.lightning_io import AtomicCheckpointIO
from dcgan.checkpoints.safe_instantiate import MATHS, reject_untrusted
from dcgan.common.arg_checks import check_int
from dcgan.common.distributed import check_world_size, exit_with_launcher, has_several_processes
from dcgan.common.errors import UserError
from dcgan.data.datamodule import BaseDataModule
from dcgan.gan import GAN
from dcgan.models.normalization import batch_norms
from dcgan.runs.run_dir import SUMMARY
from dcgan.training.callbacks.activation_stats import ActivationStats
from dcgan.training.callbacks.checkpoints import CheckpointCallback
from dcgan.training.callbacks.evaluation import EvaluationCallback
from dcgan.training.callbacks.health import Health
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from dcgan.training.callbacks.progress_bar import ProgressBar, print_outcome, print_summary
from dcgan.training.callbacks.rank_check import RankConsistencyCheck
from dcgan.training.callbacks.run_summary import RunSummary
from dcgan.training.callbacks.sample_grids import SampleGrids
from dcgan.training.cuda_graph import CUDAGraphGAN
from dcgan.training.errors import translate_errors
from dcgan.training.loggers import CSVMetricsLogger, tensorboard_logger
from dcgan.training.resume import ResumePoint, checkpoint_errors
from dcgan.training.signals import SignalHandler

PRECISIONS = ("32-true", "bf16-mixed")
STRATEGIES = ("auto", "ddp")


def train(
    cfg: DictConfig, run_dir: Path, choices: dict[str, str], gpu: int | None = None, resume: ResumePoint | None = None
) -> dict[str, Any]:
    """Run one training in `run_dir` and return its summary, which is empty on ranks other than 0.

    Args:
        cfg: conf/train.yaml with overrides; of a resumed run, what `dcgan.training.resume.resumed_config` returns.
        run_dir: The folder that the run writes to.
        choices: The chosen option of each config group.
        gpu: The index of the only GPU to use; None: the trainer decides.
        resume: The checkpoint to resume from; None: a new run.

    Raises:
        UserError, ValueError: The settings do not work, or the training was interrupted or stopped.
    """
    silence_known_warnings()
    ckpt_path = resume.path if resume is not None else None
    with exit_with_launcher():
        with checkpoint_errors(ckpt_path):
            check_plain_keys(cfg)
            config: Any = {**cast(dict, OmegaConf.to_container(cfg, resolve=True)), "ckpt_path": None}
            reject_untrusted(config, MATHS)  # it comes from a checkpoint, or will be saved in one

            L.seed_everything(cfg.seed, verbose=False)  # for the initial weights
            gan, data = build_gan(cfg), instantiate(cfg.data)
            check_batch(gan, data)

            console, signals, step = Console(soft_wrap=True), SignalHandler(), resume.step if resume else None
            loggers = [tensorboard_logger(run_dir, step), CSVMetricsLogger(run_dir / "metrics.csv", step)]
            metrics_logger = MetricsLogger(cfg.log.every_n_steps)
            samples = SampleGrids(run_dir, config["samples"]["steps"])
            metrics = instantiate(cfg.evaluator, _convert_="all")
            evaluation = EvaluationCallback(
                metrics, choices, metrics_logger, console, cfg.metrics.every_n_steps, cfg.metrics.n
            )
            health = Health(cfg.health.action, cfg.health.patience, metrics_logger, evaluation, console, config)
            checkpoints = CheckpointCallback(
                run_dir / "checkpoints" / "last.ckpt",
                config,
                choices,
                metrics_logger,
                evaluation,
                health,
                signals,
                **cfg.checkpoints,
            )
            summary = RunSummary(run_dir, metrics_logger, evaluation, config, choices)
            callbacks = [
                RankConsistencyCheck(),
                metrics_logger,
                ActivationStats(cfg.log.activity_every_n_steps),
                samples,
                evaluation,
                health,
                ProgressBar(console, metrics_logger),
                checkpoints,
                summary,
            ]
            trainer = build_trainer(cfg, gan, run_dir, callbacks, loggers, gpu, resume)
            signals.install_after_lightning(trainer)
        if trainer.is_global_zero:
            print_summary(console, gan, choices, trainer, run_dir)
        with signals.handling(), translate_errors(trainer, run_dir, checkpoints, ckpt_path):
            trainer.fit(gan, datamodule=data, ckpt_path=None if resume is None else str(resume.path), weights_only=True)
        # a run that was killed after its last step still lacks its last samples and its summary
        if not checkpoints.started and not trainer.strategy.broadcast((run_dir / SUMMARY).exists()):
            samples.on_train_end(trainer, gan)
            summary.on_train_end(trainer, gan)
        if trainer.is_global_zero:
            print_outcome(console, run_dir, samples.latest, gan.step)
            signals.raise_if_interrupted()
        return summary.summary


def silence_known_warnings() -> None:
    """Hide messages that this project cannot fix, or that its own summary repeats."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # it reports why it kills the ranks of a job
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # lightning 2.6 on torch 2.15
    warnings.filterwarnings("ignore", message=".*broadcast_buffers. is deprecated")  # torch has no replacement yet
    warnings.filterwarnings("ignore", message="Found .* in eval mode")  # the average of the weights is never trained


def check_plain_keys(cfg: DictConfig) -> None:
    """Raise ValueError for invalid values of the keys that no constructor checks."""
    if cfg.max_steps is not None:
        check_int("max_steps", cfg.max_steps, 1)
    else:
        check_int("max_epochs", cfg.max_epochs, 1)
    check_int("seed", cfg.seed, 0)
    if not isinstance(cfg.cuda_graph, bool):
        raise ValueError(f"cuda_graph must be true or false, got {cfg.cuda_graph!r}")
    for key, allowed in (("precision", PRECISIONS), ("strategy", STRATEGIES)):
        if cfg.trainer[key] not in allowed:
            raise ValueError(f"trainer.{key} must be one of {', '.join(allowed)}, got {cfg.trainer[key]!r}")


def check_batch(gan: GAN, data: BaseDataModule) -> None:
    """Raise UserError if the batch is too small for batch norm, or not a multiple of D's pack."""
    pack = gan.discriminator.pack
    if data.batch_size < 2 * pack and batch_norms(gan):
        raise UserError(
            f"data.batch_size must be at least {2 * pack} with batch norm, which normalizes by a batch "
            f"{'of packs ' if pack > 1 else ''}of at least two, got {data.batch_size}"
        )
    if data.batch_size % pack:
        raise UserError(f"data.batch_size must be a multiple of discriminator.pack ({pack}), got {data.batch_size}")


def build_gan(cfg: DictConfig) -> GAN:
    """Build the networks and their training from the config. Initial weights use torch's global generator."""
    generator, discriminator = instantiate(cfg.model), instantiate(cfg.discriminator)
    if cfg.initialization is not None:
        initialize = instantiate(cfg.initialization)
        initialize(generator)
        initialize(discriminator)
    return (CUDAGraphGAN if cfg.cuda_graph else GAN)(
        generator=generator,
        discriminator=discriminator,
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


def build_trainer(
    cfg: DictConfig,
    gan: GAN,
    run_dir: Path,
    callbacks: list[L.Callback],
    loggers: list[Logger],
    gpu: int | None,
    resume: ResumePoint | None,
) -> L.Trainer:
    """Build Lightning's Trainer, which counts optimizer steps where the config counts steps."""
    overrides: dict[str, Any] = {}
    if has_several_processes(cfg):
        # a D update leaves G's parameters unused; each rank tracks its own running statistics
        overrides["strategy"] = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    if gpu is not None:
        overrides["devices"] = [gpu]
    plugins: list[Any] = [AtomicCheckpointIO(resume.checkpoint if resume is not None else None)]
    if not has_several_processes(cfg) and int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        plugins.append(LightningEnvironment())  # each task is a run of its own: not one rank of a SLURM job
    trainer: L.Trainer = instantiate(cfg.trainer, _partial_=True, _convert_="all")(
        **overrides,
        max_steps=cfg.max_steps * gan.optimizer_steps_per_step if cfg.max_steps is not None else -1,
        max_epochs=-1 if cfg.max_steps is not None else cfg.max_epochs,
        callbacks=callbacks,
        logger=loggers,
        plugins=plugins,
        default_root_dir=run_dir,
        log_every_n_steps=0,  # the callbacks log
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    check_world_size(trainer.world_size)
    # Lightning takes it from SLURM_PROCID, also for a run of one process
    rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined]
    if trainer.strategy.root_device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return trainer
