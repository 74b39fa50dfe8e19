"""From a config to a finished run."""

import logging
import warnings
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from dcgan.callbacks import Activity, Monitor, Samples
from dcgan.checkpointing import AtomicCheckpointIO, Checkpoints, roll_back
from dcgan.checks import NonFiniteError, UserError, check_int
from dcgan.cpu import keep_freed_memory
from dcgan.data import ImageData
from dcgan.faults import explained
from dcgan.gan import GAN
from dcgan.health import Health
from dcgan.interruption import Interruption
from dcgan.loggers import CSVMetrics, tensorboard
from dcgan.normalization import batch_norms
from dcgan.processes import Agreement, bound_to_launcher, said_by_the_first
from dcgan.progress import ProgressBar, print_outcome, print_summary
from dcgan.recorded import RecordedGAN
from dcgan.report import Report
from dcgan.resuming import fitting
from dcgan.run_folder import SUMMARY
from dcgan.sweeps import rank, several_processes
from dcgan.trained import read_checkpoint
from dcgan.trusted import MATHS, refuse_foreign
from dcgan.validation import Validation

PRECISIONS = ("32-true", "bf16-mixed")


def train(cfg: DictConfig, run_dir: Path, choices: dict[str, str], gpu: int | None = None) -> dict[str, Any]:
    """Run one training into `run_dir` and return its summary (empty on the other ranks of several).

    cfg: as the user means it, a resumed run's included (`dcgan.train.resume`); choices: the chosen option of each
    config group; gpu: the only one to use, None: as the trainer says. UserError and ValueError for what cannot work.
    """
    quieten()
    keep_freed_memory()
    with fitting(cfg.ckpt_path):
        check_plain_keys(cfg)
    with bound_to_launcher():
        try:
            return attempt(cfg, run_dir, choices, gpu)
        except NonFiniteError as error:
            if cfg.health.action != "rollback" or not error.first:
                raise
            last = run_dir / "checkpoints" / "last.ckpt"
            if rank() == 0:
                print(f"rollback       {error}: going back to it, with lower learning rates")
                roll_back(last)
            try:
                last = said_by_the_first(last)
            except RuntimeError:
                raise error from None  # silent: the first process has told
        return attempt(OmegaConf.merge(cfg, {"ckpt_path": str(last)}), run_dir, choices, gpu)


def attempt(cfg: Any, run_dir: Path, choices: dict[str, str], gpu: int | None) -> dict[str, Any]:
    """The training from its start or from cfg.ckpt_path to its end, and its summary."""
    with fitting(cfg.ckpt_path):
        config: Any = {**cast(dict, OmegaConf.to_container(cfg, resolve=True)), "ckpt_path": None}
        refuse_foreign(config, MATHS)  # whether they come from a checkpoint or will go into one
        step = read_checkpoint(cfg.ckpt_path)["step"] if cfg.ckpt_path else None

        L.seed_everything(cfg.seed, verbose=False)  # the weights' initialisation
        gan, data = build_gan(cfg), instantiate(cfg.data)
        check_batch(gan, data)

        console = Console(soft_wrap=True)
        interruption = Interruption()
        events, rows = tensorboard(run_dir, step), CSVMetrics(run_dir / "metrics.csv", step)
        monitor = Monitor(cfg.log.every_n_steps)
        samples = Samples(run_dir, config["samples"]["steps"])
        metrics = instantiate(cfg.evaluator, _convert_="all")
        validation = Validation(metrics, choices, monitor, console, cfg.metrics.every_n_steps, cfg.metrics.n)
        health = Health(cfg.health.action, cfg.health.patience, monitor, validation, console)
        last = run_dir / "checkpoints" / "last.ckpt"
        checkpoints = Checkpoints(last, config, choices, monitor, validation, health, interruption, **cfg.checkpoints)
        report = Report(run_dir, monitor, validation, checkpoints, config, choices)
        callbacks = [
            Agreement(),
            monitor,
            Activity(cfg.log.activity_every_n_steps),
            samples,
            validation,
            health,
            ProgressBar(console, monitor),
            checkpoints,
            report,
        ]
        trainer = build_trainer(cfg, gan, run_dir, callbacks, [events, rows], gpu)
        interruption.come_last(trainer)
    if trainer.is_global_zero:
        print_summary(console, gan, choices, trainer, run_dir)
    with interruption.listening(), explained(trainer, run_dir, checkpoints, cfg.ckpt_path):
        trainer.fit(gan, datamodule=data, ckpt_path=cfg.ckpt_path, weights_only=True)
    # a run that was killed when only this was left to do
    if not checkpoints.started and not said_by_the_first((run_dir / SUMMARY).exists()):
        samples.on_train_end(trainer, gan)
        report.on_train_end(trainer, gan)
    if trainer.is_global_zero:
        print_outcome(console, run_dir, samples.latest, gan.step)
        interruption.refuse_to_go_on()
    return report.summary


def quieten() -> None:
    """Leave out of the terminal what is not this project's to mend or stands in its own summary."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # it tells why it ends a job whose processes it kills
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # lightning 2.6 on torch 2.15
    warnings.filterwarnings("ignore", message=".*broadcast_buffers. is deprecated")  # nothing else does the same yet
    warnings.filterwarnings("ignore", message="Found .* in eval mode")  # the average of the weights: it is meant so


def check_plain_keys(cfg: DictConfig) -> None:
    """Raise ValueError for the keys that no constructor of ours checks."""
    if cfg.max_steps is not None:
        check_int("max_steps", cfg.max_steps, 1)
    else:
        check_int("max_epochs", cfg.max_epochs, 1)
    check_int("seed", cfg.seed, 0)
    if not isinstance(cfg.cuda_graph, bool):
        raise ValueError(f"cuda_graph must be true or false, got {cfg.cuda_graph!r}")
    if cfg.trainer.precision not in PRECISIONS:
        raise ValueError(f"trainer.precision must be one of {', '.join(PRECISIONS)}, got {cfg.trainer.precision!r}")


def check_batch(gan: GAN, data: ImageData) -> None:
    pack = gan.discriminator.pack
    if data.batch_size < 2 * pack and batch_norms(gan):
        raise UserError(
            f"data.batch_size must be at least {2 * pack} with batch norm, which needs a batch "
            f"{'of packs ' if pack > 1 else ''}to normalise by, got {data.batch_size}"
        )
    if data.batch_size % pack:
        raise UserError(f"data.batch_size must be a multiple of discriminator.pack ({pack}), got {data.batch_size}")


def build_gan(cfg: DictConfig) -> GAN:
    """The networks and their training as the config says; the weights come from torch's global generator."""
    generator, discriminator = instantiate(cfg.model), instantiate(cfg.discriminator)
    if cfg.initialization is not None:
        rescale = instantiate(cfg.initialization)
        rescale(generator)
        rescale(discriminator)
    return (RecordedGAN if cfg.cuda_graph else GAN)(
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
    cfg: DictConfig, gan: GAN, run_dir: Path, callbacks: list[L.Callback], loggers: list[Logger], gpu: int | None
) -> L.Trainer:
    """Lightning's Trainer, told in optimizer steps what the config says in steps."""
    # D's step leaves G's parameters unused; the buffers of a resumed process are its own from the start
    ddp = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    several = {"strategy": ddp} if several_processes(cfg) else {}
    one = {"devices": [gpu]} if gpu is not None else {}
    trainer: L.Trainer = instantiate(cfg.trainer, _partial_=True, _convert_="all")(
        **several,
        **one,
        max_steps=cfg.max_steps * gan.optimizer_steps_per_step if cfg.max_steps is not None else -1,
        max_epochs=-1 if cfg.max_steps is not None else cfg.max_epochs,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=run_dir,
        log_every_n_steps=0,  # the callbacks log by themselves
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    if trainer.strategy.root_device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return trainer
