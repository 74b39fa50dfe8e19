"""From a config to a finished run."""

import logging
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import distributed, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from dcgan.checkpoints.lightning_io import AtomicCheckpointIO
from dcgan.common.cpu import CoreUsage, computes_bf16
from dcgan.common.device import resolve_device
from dcgan.common.distributed import exit_with_launcher, has_several_processes
from dcgan.common.errors import SweepError, UserError
from dcgan.common.instantiate import (
    build,
    build_all,
    build_function,
    name_config_key,
    require_callable,
    require_instance,
)
from dcgan.common.launcher import check_world_size, read_int
from dcgan.data.datamodule import BaseDataModule
from dcgan.data.pixel_range import PixelRange
from dcgan.gan import GAN, OptimizerFactory, SchedulerFactory
from dcgan.losses.adversarial import Loss
from dcgan.losses.gradient_penalties import GradientPenalty
from dcgan.metrics.compute import describe
from dcgan.metrics.judge import JudgeFeatures
from dcgan.metrics.random_conv import RandomConv
from dcgan.models.augmentation import Augmentation
from dcgan.models.discriminator import BaseDiscriminator
from dcgan.models.generator import BaseGenerator
from dcgan.models.normalization import batch_norms
from dcgan.runs.run_dir import SUMMARY
from dcgan.training.callbacks.checkpoints import CheckpointCallback
from dcgan.training.callbacks.evaluation import EvaluationCallback
from dcgan.training.callbacks.metrics_logger import StepMetrics
from dcgan.training.callbacks.progress_bar import print_outcome, print_summary
from dcgan.training.callbacks.run_summary import RunSummary
from dcgan.training.callbacks.sample_grids import SampleGrids
from dcgan.training.context import RunContext, find_callback
from dcgan.training.cost import reject_excess
from dcgan.training.csv_logger import CSVMetricsLogger
from dcgan.training.cuda_graph import CUDAGraphGAN
from dcgan.training.errors import translate_errors
from dcgan.training.gradient_averaging import GradientAveraging
from dcgan.training.init_from import init_weights_from
from dcgan.training.lightning_internals import remove_sigterm_broadcast
from dcgan.training.loggers import MediaLogger
from dcgan.training.plain_keys import check_plain_keys
from dcgan.training.resume import ResumePoint, check_networks, checkpoint_errors
from dcgan.training.signals import SignalHandler

DEFAULT_OBJECTIVE = "frechet"  # infinite if it is not measured


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
    usage = CoreUsage()
    silence_known_warnings()
    cfg.run_dir = str(run_dir)
    ckpt_path = resume.path if resume is not None else None
    with exit_with_launcher():
        with checkpoint_errors(ckpt_path):
            check_plain_keys(cfg)  # again: a resumed config has values of the checkpoint
            if resume is not None:
                check_networks(resume)
            cfg.trainer.precision = choose_precision(cfg.trainer)
            reject_excess(cfg)
            L.seed_everything(cfg.seed, verbose=False)  # for the initial weights
            gan, data = build_gan(cfg), build(cfg, "data", BaseDataModule)
            check_batch(gan, data)
            started_from = (
                init_weights_from(gan, cfg.init_from, cfg.init_from_ema)
                if cfg.init_from is not None and resume is None
                else None
            )
            signals = SignalHandler()
            context = RunContext(run_dir, cfg, choices, signals, Console(soft_wrap=True, markup=False), started_from)
            trainer = build_trainer(cfg, gan, context, gpu, resume)
            check_objective(cfg, trainer)
        signals.install_after_lightning(trainer)
        if trainer.is_global_zero:
            print_summary(trainer, gan, usage)
        with signals.handling(), translate_errors(trainer, run_dir, ckpt_path):
            trainer.fit(gan, datamodule=data, ckpt_path=None if resume is None else str(resume.path), weights_only=True)
        finished = trainer.strategy.broadcast((run_dir / SUMMARY).exists())
        if not find_callback(trainer, CheckpointCallback).started and not finished:
            complete_killed_run(trainer, gan)
        if distributed.is_initialized():
            distributed.destroy_process_group()  # gloo's threads could abort the exit of the interpreter
        if trainer.is_global_zero:
            print_outcome(context.console, run_dir, gan.step, find_callback(trainer, RunSummary).summary)
            signals.raise_if_interrupted()
        return find_callback(trainer, RunSummary).summary


def check_objective(cfg: DictConfig, trainer: L.Trainer) -> None:
    """Raise SweepError if a chosen objective is not a metric of this run."""
    spaces = {JudgeFeatures.name, RandomConv.name, *cfg.features}  # "auto" is one of the first two
    measured = describe(find_callback(trainer, EvaluationCallback).metrics, spaces)
    known = [*measured, *StepMetrics._fields, "images_per_second"]
    if cfg.objective != DEFAULT_OBJECTIVE and cfg.objective not in known:
        raise SweepError(f"objective must be one of {', '.join(known)}, got {cfg.objective!r}")


def complete_killed_run(trainer: L.Trainer, gan: GAN) -> None:
    """Write the last samples and the summary of a run that was killed after its last step."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SampleGrids | RunSummary):
            callback.on_train_end(trainer, gan)


def silence_known_warnings() -> None:
    """Hide messages that this project cannot fix, or that its own summary repeats."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # it reports why it kills the ranks of a job
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # lightning 2.6 on torch 2.15
    warnings.filterwarnings("ignore", message="GPU available but not used")  # trainer=cpu
    warnings.filterwarnings("ignore", message=".*`dataloader_iter`")  # of CUDAGraphGAN
    warnings.filterwarnings("ignore", message="Found .* in eval mode")  # the average of the weights is never trained


def check_batch(gan: GAN, data: BaseDataModule) -> None:
    """Raise UserError if a step's images are too few for batch norm, or do not fit D's updates or D's pack."""
    pack = gan.discriminator.pack
    if data.batches_per_step != gan.discriminator_steps:
        raise UserError(f"data.batches_per_step must be discriminator_steps, got {data.batches_per_step}: leave it out")
    if data.batch_size < 2 * pack and batch_norms(gan):
        raise UserError(
            f"data.batch_size must be at least {2 * pack} with batch norm, which normalizes by a batch "
            f"{'of packs ' if pack > 1 else ''}of at least two, got {data.batch_size}"
        )
    if data.batch_size % pack:
        raise UserError(f"data.batch_size must be a multiple of discriminator.pack ({pack}), got {data.batch_size}")


def to_container(cfg: DictConfig) -> dict[str, Any]:
    return cast(dict, OmegaConf.to_container(cfg, resolve=True))


def build_gan(cfg: DictConfig) -> GAN:
    """Build the networks and their training from the config. Initial weights use torch's global generator."""
    generator, discriminator = build(cfg, "model", BaseGenerator), build(cfg, "discriminator", BaseDiscriminator)
    if cfg.initialization is not None:
        initialize = build_function(cfg, "initialization")
        initialize(generator)
        initialize(discriminator)
    return (CUDAGraphGAN if records_graph(cfg) else GAN)(
        generator=generator,
        discriminator=discriminator,
        loss=build(cfg, "loss", Loss),
        discriminator_optimizer=optimizer_factory(cfg, "optimizer.discriminator"),
        generator_optimizer=optimizer_factory(cfg, "optimizer.generator"),
        pixels=build(cfg, "output.pixels", PixelRange),
        penalty=None if cfg.penalty is None else build(cfg, "penalty", GradientPenalty),
        augmentation=None if cfg.augmentation is None else build(cfg, "augmentation", Augmentation),
        schedulers=None if cfg.scheduler is None else scheduler_factories(cfg),
        discriminator_steps=cfg.discriminator_steps,
        ema_decay=cfg.ema.decay,
        seed=cfg.seed,
        fixed_n=cfg.samples.n,
    )


def records_graph(cfg: DictConfig) -> bool:
    """Return True if the step is recorded as a CUDA graph: by default, if the run uses a GPU."""
    if cfg.cuda_graph is not None:
        return cfg.cuda_graph
    return cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def optimizer_factory(cfg: DictConfig, key: str) -> OptimizerFactory:
    settings = {
        # torch rejects a mix of integers and floats, such as the betas 0 and 0.9
        name: [float(x) if isinstance(x, int) else x for x in value] if isinstance(value, list) else value
        for name, value in to_container(OmegaConf.select(cfg, key)).items()
    }
    with name_config_key(key):
        factory = require_callable(key, instantiate(settings, _convert_="all"))

    def create(parameters: Iterable[nn.Parameter]) -> Optimizer:
        with name_config_key(key):
            return require_instance(key, factory(parameters), Optimizer)

    create([nn.Parameter(torch.zeros(1))])  # finds bad settings before the run starts
    return create


def scheduler_factories(cfg: DictConfig) -> tuple[SchedulerFactory, SchedulerFactory]:
    """Return the factories of D's and G's scheduler. The first to be called sets `scheduler.steps`, if it is null."""

    def create(key: str, optimizer: Optimizer, steps: int) -> LRScheduler:
        if "steps" in cfg.scheduler and cfg.scheduler.steps is None:
            cfg.scheduler.steps = steps  # so that a resumed run has the same schedule
        factory = build_function(cfg, key)
        with name_config_key(key):
            scheduler = require_instance(key, factory(optimizer), LRScheduler)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise UserError(f"{key}: ReduceLROnPlateau needs a metric at each step: give another scheduler")
        return scheduler

    return partial(create, "scheduler.discriminator"), partial(create, "scheduler.generator")


def choose_precision(trainer: DictConfig) -> str:
    """Return the trainer's precision; for auto, bf16-mixed on a CPU that computes with bfloat16, else 32-true."""
    if trainer.precision != "auto":
        return trainer.precision
    on_cpu = trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and resolve_device("auto").type == "cpu")
    return "bf16-mixed" if on_cpu and computes_bf16() else "32-true"


def build_trainer(
    cfg: DictConfig, gan: GAN, context: RunContext, gpu: int | None, resume: ResumePoint | None
) -> L.Trainer:
    """Build Lightning's Trainer, which counts optimizer steps where the config counts steps."""
    callbacks = [context, *build_all(cfg, "callbacks", L.Callback).values()]
    loggers = [*build_all(cfg, "logger", Logger).values(), CSVMetricsLogger()]  # type: ignore[type-abstract]
    overrides: dict[str, Any] = {}
    if has_several_processes(cfg):
        overrides["strategy"] = GradientAveraging()
    if gpu is not None:
        overrides["devices"] = [gpu]
    plugins: list[Any] = [AtomicCheckpointIO(resume.checkpoint if resume is not None else None)]
    if not has_several_processes(cfg) and (read_int("SLURM_NTASKS") or 1) > 1:
        plugins.append(LightningEnvironment())  # each task is a run of its own: not one rank of a SLURM job
    own = {
        "max_steps": cfg.max_steps * gan.optimizer_steps_per_step if cfg.max_steps is not None else -1,
        "max_epochs": -1 if cfg.max_steps is not None else cfg.max_epochs,
        "callbacks": callbacks,
        "logger": loggers,
        "plugins": plugins,
        "default_root_dir": context.run_dir,
        "log_every_n_steps": 0,  # the callbacks log
        # Lightning's own, if the config has one
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_model_summary": any(isinstance(callback, ModelSummary) for callback in callbacks),
        "use_distributed_sampler": False,
        # they count Lightning's steps, and change what is logged and saved
        "fast_dev_run": False,
        "overfit_batches": 0.0,
    }
    with name_config_key("trainer"):
        for name in own.keys() & {*cfg.trainer}:
            raise UserError(f"trainer.{name} is set by the command: leave it out")
        trainer: L.Trainer = instantiate(cfg.trainer, _partial_=True, _convert_="all")(**overrides, **own)
    check_world_size(trainer.world_size)
    remove_sigterm_broadcast(trainer)
    # Lightning takes it from SLURM_PROCID, also for a run of one process
    rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined]
    for logger in loggers:
        if isinstance(logger, MediaLogger):
            logger.start(context.run_dir, resume.step if resume is not None else None)
    if trainer.strategy.root_device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as cuDNN's convolutions by default
    return trainer
