"""Warn about a training that has gone wrong while there is still time to stop it."""

from typing import Any

import lightning as L
import torch
from jaxtyping import UInt8
from torch import Tensor

from dcgan.common.arg_checks import check_int
from dcgan.common.config_tree import select
from dcgan.common.device import float64_device
from dcgan.common.errors import NonFiniteError
from dcgan.gan import GAN
from dcgan.losses.adversarial import Loss
from dcgan.training.callbacks.checkpoints import CheckpointCallback
from dcgan.training.callbacks.evaluation import EvaluationCallback
from dcgan.training.callbacks.metrics_logger import MetricsLogger
from dcgan.training.callbacks.shared import AttributeStateCallback
from dcgan.training.context import find_callback, run_context
from dcgan.training.loggers import log_metrics, log_text

ACTIONS = ("warn", "stop")
N_IMAGES = 16  # of the fixed noise: in half the time of all 64
MIN_DIVERSITY = 0.15  # of the real images' diversity; healthy runs stayed above 0.25 from the first step on
NEAR_MINIMUM = 0.05  # of the way from D's smallest loss to that of a D that cannot distinguish
VANISHED = 1e-3  # of the largest gradient norm so far
LARGEST_LOGIT = 20.0
# odd numbers of common random number generators: Knuth's MMIX and Vigna's xorshift64*
HASH_MULTIPLIERS = (6364136223846793005, 2685821657736338717)

SYMPTOMS = {
    "collapse": "all samples look alike",
    "frozen_generator": "the generator no longer changes",
    "missing_classes": "the samples show some classes only",
    "saturated_discriminator": "the discriminator distinguishes perfectly, and the generator learns little",
    "starved_generator": "the discriminator gives the generator nothing to learn from",
}
# what may help; advice that names a key is only given for a config that has the key
ADVICE: dict[str, tuple[tuple[str | None, str], ...]] = {
    "collapse": (("optimizer.lr", "a lower optimizer.lr"), ("penalty", "a penalty")),
    "frozen_generator": (
        (None, "a look at train/gradient_norm_g"),
        ("optimizer.generator.lr", "another optimizer.generator.lr"),
    ),
    "missing_classes": (("ema.decay", "ema.decay=0.99"), ("loss", "another loss")),
    "saturated_discriminator": (
        ("optimizer.discriminator.lr", "a lower optimizer.discriminator.lr"),
        ("loss.label_smoothing", "loss.label_smoothing=0.1"),
    ),
    "starved_generator": (
        (None, "a look at train/d_real and train/d_fake"),
        ("optimizer.discriminator.lr", "a higher optimizer.discriminator.lr"),
    ),
}


class Health(AttributeStateCallback):
    """Report symptoms of a failing training, on the console and as text in TensorBoard.

    A symptom is reported once, when it has lasted for `patience` steps, within which it is looked for twice. The curves
    health/* are 1 while one is present.

    - collapse: samples of the fixed noise have less than 15 % of the real images' diversity.
    - frozen_generator: these samples are the same as before.
    - missing_classes: the evaluation misses a class although most samples are confident.
    - saturated_discriminator: loss_d is within 5 % of its minimum, measured from the loss of a D that cannot
      distinguish. Never for Wasserstein's loss, which has no minimum; a penalty hides it.
    - starved_generator: D ranks fakes above reals, or G's gradient is 1e-3 of its largest norm.

    Args:
        action: "warn", or "stop", which saves the state and ends the run.
        patience: In steps, >= 1.
    """

    saved = {"first_step": {str: int}, "reported": [str], "largest_gradient": float, "sample_digest": int | None}

    def __init__(self, action: str, patience: int) -> None:
        if action not in ACTIONS:
            raise ValueError(f"health.action must be one of {', '.join(ACTIONS)}, got {action!r}")
        check_int("health.patience", patience, 1)
        self.action, self.patience, self.interval = action, patience, max(1, patience // 2)
        self.sample_digest: int | None = None  # of the samples at the last check
        self.first_step: dict[str, int] = {}  # since when each present symptom lasts
        self.reported: list[str] = []
        self.largest_gradient = 0.0

    def setup(self, trainer: L.Trainer, gan: GAN, stage: str) -> None:
        self.metrics_logger = find_callback(trainer, MetricsLogger)
        self.evaluation = find_callback(trainer, EvaluationCallback)
        self.checkpoints = find_callback(trainer, CheckpointCallback)

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        self.row = self.metrics_logger.latest  # the last one checked
        self.real_diversity = diversity(trainer.datamodule.preview(N_IMAGES))

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if self.metrics_logger.latest is not self.row and self.is_due(gan.step):
            self.row = self.metrics_logger.latest
            present = self.find_symptoms(gan)
            # running statistics, and so samples, differ between ranks: rank 0 decides
            if trainer.world_size > 1:
                present = trainer.strategy.broadcast(present)
            self.report_lasting(trainer, gan.step, present)

    def is_due(self, step: int) -> bool:
        return step % self.interval == 0

    def find_symptoms(self, gan: GAN) -> dict[str, bool]:
        """Return which symptoms the last row of metrics and the samples of the fixed noise have."""
        row = self.row
        gradient = row["train/gradient_norm_g"]
        self.largest_gradient = max(self.largest_gradient, gradient)
        label = None if gan.fixed_label is None else gan.fixed_label[:N_IMAGES]
        images, before = gan.sample(gan.fixed_z[:N_IMAGES], label), self.sample_digest
        self.sample_digest = pixel_hash(images)
        return {
            "collapse": diversity(images) < MIN_DIVERSITY * self.real_diversity,
            "frozen_generator": self.sample_digest == before,
            "missing_classes": self.evaluation.lacks_classes(),
            "saturated_discriminator": is_near_minimum(gan.loss, row["train/loss_d"]),
            "starved_generator": row["train/d_fake"] > row["train/d_real"]
            or gradient < VANISHED * self.largest_gradient,
        }

    def report_lasting(self, trainer: L.Trainer, step: int, present: dict[str, bool]) -> None:
        """Log all symptoms and report those that have just reached the patience."""
        log_metrics(trainer, {f"health/{name}": float(is_present) for name, is_present in present.items()}, step)
        self.first_step = {name: self.first_step.get(name, step) for name, is_present in present.items() if is_present}
        for name, first in self.first_step.items():
            if name not in self.reported and step - first >= self.patience:
                self.reported.append(name)
                self.report(
                    trainer,
                    step,
                    f"{SYMPTOMS[name]} since step {first}: try {advice(name, run_context(trainer).config)}",
                )

    def report(self, trainer: L.Trainer, step: int, sentence: str) -> None:
        if self.action == "stop":
            self.checkpoints.stop_reason = sentence
        if trainer.is_global_zero:
            run_context(trainer).console.print(f"health         step {step}: {sentence}", highlight=False)
            log_text(trainer, "health", sentence, step)

    def on_exception(self, trainer: L.Trainer, gan: GAN, exception: BaseException) -> None:
        if isinstance(exception, NonFiniteError):
            log_text(trainer, "health", str(exception), gan.step)


def diversity(images: UInt8[Tensor, "n c h w"]) -> float:
    """Return the standard deviation over the images, averaged over pixels in [0, 1]."""
    return images.to(float64_device(images.device)).double().std(dim=0).mean().item() / 255


def pixel_hash(images: UInt8[Tensor, "n c h w"]) -> int:
    """Return a 64-bit hash of the pixels and their positions, which is computed on the images' device."""
    keys = torch.arange(images.numel(), device=images.device) * 256 + images.flatten()
    for multiplier in HASH_MULTIPLIERS:
        keys = (keys ^ (keys >> 31)) * multiplier
    return int(keys.sum())


def is_near_minimum(loss: Loss, loss_d: float) -> bool:
    """Return True if D's loss is close to its minimum, False if the loss has none."""
    if loss.discriminator_minimum is None:
        return False
    undecided = loss.discriminator(torch.zeros(1), torch.zeros(1)).item()
    return loss_d - loss.discriminator_minimum < NEAR_MINIMUM * (undecided - loss.discriminator_minimum)


def advice(symptom: str, config: dict[str, Any]) -> str:
    """Return what may help against the symptom with this config."""
    return " or ".join(text for key, text in ADVICE[symptom] if key is None or select(config, key) is not None)
