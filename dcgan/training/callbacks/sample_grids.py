"""Sample grids during training."""

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from dcgan.common.arg_checks import check_ints
from dcgan.common.image_grid import image_grid, save_png
from dcgan.gan import GAN
from dcgan.training.context import run_context
from dcgan.training.loggers import log_histogram, log_image


class SampleGrids(L.Callback):
    """Save grids of the fixed noise to samples/step_*.png and log them.

    The loggers also get histograms of D's outputs, and real images once. Grids are saved at the given steps, then at
    each doubling of the last of them, and at the end.

    Args:
        steps: Each >= 0.
    """

    def __init__(self, steps: list[int]) -> None:
        check_ints("samples.steps", steps, 0)
        self.steps = sorted(set(steps))

    def is_due(self, step: int) -> bool:
        if not self.steps or step <= self.steps[-1]:
            return step in self.steps
        multiple, remainder = divmod(step, max(1, self.steps[-1]))
        return remainder == 0 and multiple & (multiple - 1) == 0  # a power of two

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        if gan.step == 0:
            real = trainer.datamodule.preview(len(gan.fixed_z))
            log_image(trainer, "real", image_grid(real), 0)
            if self.is_due(0):
                self.save(trainer, gan)

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if self.is_due(gan.step):
            self.save(trainer, gan)
            self.log_histograms(trainer, gan, outputs)

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        if not self.is_due(gan.step):
            self.save(trainer, gan)

    @rank_zero_only
    def save(self, trainer: L.Trainer, gan: GAN) -> None:
        """Generate, save and log the grid of this step."""
        columns = gan.generator.classes or None  # one per class
        grid = image_grid(gan.sample(gan.fixed_z, gan.fixed_label), columns)
        save_png(run_context(trainer).run_dir / "samples" / f"step_{gan.step:06d}.png", grid)
        log_image(trainer, "samples", grid, gan.step)

    @rank_zero_only
    def log_histograms(self, trainer: L.Trainer, gan: GAN, outputs: dict[str, Tensor]) -> None:
        for name in ("real_logits", "fake_logits"):
            finite = outputs[name][outputs[name].isfinite()]
            if len(finite):  # else MetricsLogger is about to stop the run
                log_histogram(trainer, f"discriminator/{name}", finite, gan.step)
