"""Signs that a training has gone wrong, said while there is still time to stop it."""

import math
from typing import Any

import lightning as L
import torch
from jaxtyping import UInt8
from rich.console import Console
from torch import Tensor

from dcgan.cache import digest
from dcgan.callbacks import Monitor, board, log
from dcgan.checks import NonFiniteError, check_int
from dcgan.gan import GAN
from dcgan.losses import Loss
from dcgan.validation import Validation

ACTIONS = ("warn", "stop", "rollback")
KEPT = ("since", "said", "largest_gradient", "drawn")  # in checkpoints
LOOKED_AT = 16  # images of the fixed noise; they take half the time of all 64, or less
ALIKE = 0.15  # of the real images' diversity; runs that went well stayed above a quarter of it from the first step on
DECIDED = 0.05  # of the way from the least loss of D to that of one that cannot tell
VANISHED = 1e-3  # of the largest gradient norm so far
LARGEST_LOGIT = 20.0
SURE = 0.5  # share of samples that the judge is sure of; before, they are no digits yet

SYMPTOMS = {
    "collapse": "all samples look alike",
    "frozen_generator": "the generator no longer changes",
    "missing_classes": "the samples are of some classes only",
    "saturated_discriminator": "the discriminator tells real from fake without effort, and the generator learns little",
    "starved_generator": "the discriminator gives the generator nothing to learn from",
}
ADVICE = {
    "collapse": "try a lower optimizer.lr, or a penalty",
    "frozen_generator": "look at train/gradient_norm_g; try another optimizer.generator.lr or output=tanh",
    "missing_classes": "look at class_histogram in an evaluation; try ema.decay=.99 or another loss",
    "saturated_discriminator": "try a lower optimizer.discriminator.lr or loss.label_smoothing=.1",
    "starved_generator": "look at train/d_real and train/d_fake; try a higher optimizer.discriminator.lr",
}


def diversity(images: UInt8[Tensor, "n c h w"]) -> float:
    """Mean over pixels of their standard deviation over the images, in pixel values of 0 to 1."""
    return images.double().std(dim=0).mean().item() / 255


def range_of_loss(loss: Loss) -> tuple[float, float]:
    """The discriminator's loss where it knows all, -inf where there is no least, and where it knows nothing. Label
    smoothing keeps the first one above 0."""
    logits, zero = torch.linspace(-LARGEST_LOGIT, LARGEST_LOGIT, 161), torch.zeros(1)
    real = min((loss.discriminator(logit, zero).item(), logit.item()) for logit in logits.split(1))[1]
    fake = min((loss.discriminator(zero, logit).item(), logit.item()) for logit in logits.split(1))[1]
    least = loss.discriminator(torch.tensor([real]), torch.tensor([fake])).item()
    return -math.inf if least < 0 else least, loss.discriminator(zero, zero).item()


class Health(L.Callback):
    """Looks at each row of metrics; a symptom that holds for `patience` steps on end is said once, on the console and
    as text in TensorBoard, whose curves health/* are 1 while one holds.

    collapse: the fixed noise draws images with under 15 % of the diversity of real ones. frozen_generator: it draws
    the very images of the look before. missing_classes: the validation misses a class although the judge is sure of
    most samples. saturated_discriminator: loss_d is that near to the least that it can be: 5 % of the way to there from
    what it is without any knowledge (for Wasserstein's loss, which has no least, never; a penalty hides it).
    starved_generator: D ranks fakes above reals, or G's gradient is a thousandth of what it was.

    action: "warn"; "stop", which ends the run with its state saved; "rollback", which warns too, and goes back once
    where numbers are not finite (`dcgan.checkpointing.roll_back`). patience: in steps.
    """

    def __init__(self, action: str, patience: int, monitor: Monitor, validation: Validation, console: Console) -> None:
        if action not in ACTIONS:
            raise ValueError(f"health.action must be one of {', '.join(ACTIONS)}, got {action!r}")
        check_int("health.patience", patience, 1)
        self.action, self.patience = action, patience
        self.monitor, self.validation, self.console = monitor, validation, console
        self.row = monitor.latest  # the last one looked at
        self.drawn = ""  # digest of the images of the fixed noise, at the last look
        self.since: dict[str, int] = {}  # the step from which on a symptom holds
        self.said: list[str] = []
        self.largest_gradient = 0.0
        self.verdict: str | None = None  # why the run must stop

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in KEPT:
            setattr(self, name, state_dict[name])

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        self.real_diversity = diversity(trainer.datamodule.preview(LOOKED_AT))
        self.row = self.monitor.latest
        self.least, self.undecided = range_of_loss(gan.loss)

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if self.monitor.latest is not self.row:
            self.row = self.monitor.latest
            found = self.look(gan)
            # statistics, and so samples, differ between processes: one word for all
            self.weigh(trainer, gan.step, trainer.strategy.broadcast(found) if trainer.world_size > 1 else found)

    def look(self, gan: GAN) -> dict[str, bool]:
        """Which symptoms the last row of metrics and the fixed noise have."""
        row, val = self.row, self.validation.latest
        gradient = row["train/gradient_norm_g"]
        self.largest_gradient = max(self.largest_gradient, gradient)
        label = None if gan.fixed_label is None else gan.fixed_label[:LOOKED_AT]
        images, before = gan.sample(gan.fixed_z[:LOOKED_AT], label), self.drawn
        self.drawn = digest([images])
        missing = val.get("val/classes", self.validation.classes) < self.validation.classes
        return {
            "collapse": diversity(images) < ALIKE * self.real_diversity,
            "frozen_generator": self.drawn == before,
            "missing_classes": missing and val["val/sure"] > SURE,
            "saturated_discriminator": row["train/loss_d"] - self.least < DECIDED * (self.undecided - self.least),
            "starved_generator": row["train/d_fake"] > row["train/d_real"]
            or gradient < VANISHED * self.largest_gradient,
        }

    def weigh(self, trainer: L.Trainer, step: int, found: dict[str, bool]) -> None:
        """Say what has held for long enough and was not yet said."""
        log(trainer, {f"health/{name}": float(holds) for name, holds in found.items()}, step)
        self.since = {name: self.since.get(name, step) for name, holds in found.items() if holds}
        for name, first in self.since.items():
            if name not in self.said and step - first >= self.patience:
                self.said.append(name)
                self.say(trainer, step, f"{SYMPTOMS[name]} since step {first}: {ADVICE[name]}")

    def say(self, trainer: L.Trainer, step: int, sentence: str) -> None:
        if self.action == "stop":
            self.verdict = sentence
        if trainer.is_global_zero:
            self.console.print(f"health         step {step}: {sentence}", highlight=False)
            board(trainer).add_text("health", sentence, step)

    def on_exception(self, trainer: L.Trainer, gan: GAN, exception: BaseException) -> None:
        if isinstance(exception, NonFiniteError):
            board(trainer).add_text("health", str(exception), gan.step)
