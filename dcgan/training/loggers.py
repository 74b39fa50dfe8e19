"""Loggers: where scalars, images, histograms, texts and hyperparameters of a run go.

Callbacks log through the functions `log_*`. Scalars and hyperparameters go to each of Lightning's loggers, the rest to
each logger that is a `MediaLogger`.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, UInt8
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.utils.tensorboard._pytorch_graph import graph
from torch.utils.tensorboard.summary import hparams

from dcgan.common.arg_checks import check_int
from dcgan.gan import GAN
from dcgan.models.forward_modes import eval_mode
from dcgan.models.layers import layer_name

Image = UInt8[Tensor, "c h w"]
Charts = dict[str, dict[str, list[str]]]  # category -> title of a chart -> names of scalars


class MediaLogger:
    """Mixin of a Lightning logger that takes more than scalars. Each method does nothing by default."""

    def start(self, run_dir: Path, resumed_step: int | None) -> None:
        """Prepare to log a run. Called once, before anything else, on all ranks.

        Args:
            run_dir: The folder of the run.
            resumed_step: The step that the run resumes from; None: a new run.
        """

    def add_image(self, name: str, image: Image, step: int) -> None: ...

    def add_histogram(self, name: str, values: Float[Tensor, " n"], step: int) -> None: ...

    def add_text(self, name: str, text: str, step: int) -> None: ...

    def add_graph(self, gan: GAN) -> None: ...

    def add_charts(self, charts: Charts) -> None:
        """Arrange the most important scalars in charts."""

    def add_columns(self, swept: Mapping[str, Any], metrics: list[str]) -> None:
        """Choose the columns of a table of the runs of a sweep.

        Args:
            swept: The hyperparameters that differ between the runs, with their values in this run.
            metrics: Names of scalars, the most important ones first.
        """


# --- what callbacks call


def log_metrics(trainer: L.Trainer, metrics: dict[str, float], step: int) -> None:
    """Log scalars. self.log would cost more than Lightning's loop: experiments/hot_path."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step)
    publish(trainer, metrics)


def publish(trainer: L.Trainer, metrics: dict[str, float]) -> None:
    """Put metrics where Lightning's own callbacks, such as EarlyStopping, look for them."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})


def log_image(trainer: L.Trainer, name: str, image: Image, step: int) -> None:
    for logger in media_loggers(trainer):
        logger.add_image(name, image, step)


def log_histogram(trainer: L.Trainer, name: str, values: Float[Tensor, " n"], step: int) -> None:
    for logger in media_loggers(trainer):
        logger.add_histogram(name, values, step)


def log_text(trainer: L.Trainer, name: str, text: str, step: int) -> None:
    for logger in media_loggers(trainer):
        logger.add_text(name, text, step)


def log_graph(trainer: L.Trainer, gan: GAN) -> None:
    for logger in media_loggers(trainer):
        logger.add_graph(gan)


def log_charts(trainer: L.Trainer, charts: Charts) -> None:
    for logger in media_loggers(trainer):
        logger.add_charts(charts)


def log_columns(trainer: L.Trainer, swept: Mapping[str, Any], metrics: list[str]) -> None:
    for logger in media_loggers(trainer):
        logger.add_columns(swept, metrics)


def log_hyperparameters(trainer: L.Trainer, values: dict[str, Any]) -> None:
    for logger in trainer.loggers:
        logger.log_hyperparams(values)


def media_loggers(trainer: L.Trainer) -> Iterator[MediaLogger]:
    """Yield the loggers that take media; none on ranks other than 0."""
    if trainer.is_global_zero:
        yield from (logger for logger in trainer.loggers if isinstance(logger, MediaLogger))


# --- TensorBoard


class TensorBoard(TensorBoardLogger, MediaLogger):
    """Event files in the run folder itself.

    Unlike Lightning's logger, it writes no hparams.yaml, reports a full disk as such, and hides what an interrupted run
    has written after the checkpoint that it resumes from.

    Args:
        flush_secs: Interval in seconds in which events are written to the disk.
    """

    def __init__(self, flush_secs: int = 10) -> None:
        check_int("logger.tensorboard.flush_secs", flush_secs, 1, 86_400)
        self.flush_secs = flush_secs

    def start(self, run_dir: Path, resumed_step: int | None) -> None:
        # a new run hides all events of one that was killed before its first checkpoint; one that is resumed from step 0
        # logs its first images again
        purge_step: Any = resumed_step + 1 if resumed_step else 0
        super().__init__(
            run_dir, name="", version="", default_hp_metric=False, flush_secs=self.flush_secs, purge_step=purge_step
        )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.experiment.add_scalar(name, value, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log what TensorBoard's HPARAMS page shows of this run: all, those that differ between the runs first.

        For a sweep, `add_columns` chooses the columns.
        """
        _, start, _ = hparams(params, {})
        self.experiment._get_file_writer().add_summary(start)

    def add_columns(self, swept: Mapping[str, Any], metrics: list[str]) -> None:
        experiment, _, _ = hparams(dict(swept), dict.fromkeys(metrics, 0))
        self.experiment._get_file_writer().add_summary(experiment)

    def add_charts(self, charts: Charts) -> None:
        """Log the layout of the page CUSTOM SCALARS, which takes names of scalars as regular expressions."""
        layout = {
            category: {title: ["Multiline", [f"{re.escape(name)}$" for name in names]] for title, names in of.items()}
            for category, of in charts.items()
        }
        self.experiment.add_custom_scalars(layout)

    def add_image(self, name: str, image: Image, step: int) -> None:
        self.experiment.add_image(name, image, step)

    def add_histogram(self, name: str, values: Float[Tensor, " n"], step: int) -> None:
        self.experiment.add_histogram(name, values, step)

    def add_text(self, name: str, text: str, step: int) -> None:
        self.experiment.add_text(name, text, step)

    def add_graph(self, gan: GAN) -> None:
        """Log the graph of D(G(z)), traced in eval mode, which does not change running statistics.

        Its boxes have the names that the layers have elsewhere.
        """
        n = max(2, gan.discriminator.pack)
        inputs = (gan.fixed_z[:n],) if gan.fixed_label is None else (gan.fixed_z[:n], gan.fixed_label[:n])
        networks = GeneratorAndDiscriminator(gan.generator, gan.discriminator)
        with eval_mode(gan.generator, gan.discriminator), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorBoard traces with functions that torch 2.15 deprecates
            # `graph` gives the root's mode to all submodules in the end, and itself would trace twice to compare
            networks.eval()
            traced = torch.jit.trace(networks, inputs, strict=False, check_trace=False)
            definition, run_metadata = graph(traced, inputs)
        for node in definition.node:
            node.name, node.input[:] = box_name(node.name), [box_name(name) for name in node.input]
        self.experiment._get_file_writer().add_graph((definition, run_metadata))

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the event file. After a failed training, a second error must not hide the first one."""
        with nullcontext() if status == "success" else suppress(OSError):
            if status == "success":
                *_, end = hparams({}, {})
                self.experiment._get_file_writer().add_summary(end)
            super().finalize(status)


class GeneratorAndDiscriminator(nn.Module):
    """Compute D(G(z)), or D(G(z, y), y) with a label y."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, z: Tensor, *label: Tensor) -> Tensor:
        return self.discriminator(self.generator(z, *label), *label)


def box_name(node: str) -> str:
    """Return the name of a graph's node without the outermost module and without classes: "Class[name]" is name."""
    path = node.removeprefix(f"{GeneratorAndDiscriminator.__name__}/")
    return layer_name(re.sub(r"\w+\[(\w+)\]", r"\1", path))
