"""The evaluator's figures while a run trains, and which of its states was the best."""

import math
import time
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from rich.console import Console
from torch import Tensor

from dcgan.callbacks import Monitor, at_the_end, log, total_steps
from dcgan.checks import UserError, check_int
from dcgan.data import InMemoryData
from dcgan.gan import GAN
from dcgan.measuring import Metrics, measure, reference, that_apply
from dcgan.metrics.judge import Judged, MissingJudgeError
from dcgan.metrics.reference import Reference
from dcgan.processes import gather
from dcgan.trained import in_batches, labels, latents

TIMES = 5  # in a run, where nothing else is asked for
BATCH = 500
FIRST_N = 2000  # images before the first step, which nobody should have to wait for
BEST = "val/frechet"
KEPT = ("best", "best_step", "latest", "seconds", "judge_facts")  # in checkpoints


class Validation(L.Callback):
    """val/*: the metrics of n images drawn from the sampler in eval mode (the average of the weights where there is
    one), the same latent vectors each time, every `every_n_steps` and at the end. Several processes draw and judge a
    share each; the first one measures, and all agree on its figures.

    metrics: without a judge for the data, those that need one are left out, with one line that says so.
    Before the first step the metrics that need no judge are measured on fewer images: how a network upsamples shows in
    its checkerboard from the start.
    monitor: whose clock stands still meanwhile.
    every_n_steps: None: five times in a run. n: None: as many as there are test images.
    `best` is the lowest Frechet distance so far, `best_step` where that was.
    """

    def __init__(
        self,
        metrics: Metrics,
        choices: dict[str, str],
        monitor: Monitor,
        console: Console,
        every_n_steps: int | None,
        n: int | None,
    ) -> None:
        check_int("metrics.every_n_steps", every_n_steps, 1, optional=True)
        check_int("metrics.n", n, 1, optional=True)
        self.metrics, self.choices, self.monitor, self.console = metrics, choices, monitor, console
        self.every_n_steps, self.n = every_n_steps, n
        self.latest: dict[str, float] = {}
        self.best, self.best_step = math.inf, -1
        self.seconds = 0.0
        self.real: Reference | None = None
        self.classes = 0  # of the data set, where there is a judge
        self.judge_facts: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in KEPT:
            setattr(self, name, state_dict[name])

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        self.period = self.every_n_steps or max(1, math.ceil(total_steps(trainer, gan) / TIMES))
        self.metrics = that_apply(self.metrics, judged=True, labelled=gan.generator.classes > 0)
        self.real = self.prepare(trainer) if self.metrics else None
        self.judge_facts = self.real.judge_facts if self.real else None
        self.classes = len(self.real.prior) if self.real and self.judge_facts else 0
        first = that_apply(self.metrics, judged=False, labelled=False)
        if self.real is not None and first and gan.step == 0:
            self.measure(trainer, gan, self.real, first, FIRST_N)

    def prepare(self, trainer: L.Trainer) -> Reference | None:
        """The real images; None, with one line that says why, where nothing can be measured against them."""
        data = trainer.datamodule
        try:
            return reference(data, trainer.strategy.root_device)
        except MissingJudgeError as error:
            command = f"python -m dcgan.metrics.classifier data={self.choices['data']}"
            reason = f"{error} ({command} trains one)"
        except UserError as error:
            reason = str(error)
        self.metrics = that_apply(self.metrics, judged=False, labelled=True) if isinstance(data, InMemoryData) else {}
        if trainer.is_global_zero:
            left = ", ".join(self.metrics) or "nothing"
            self.console.print(f"metrics        {reason}: {left} will be measured, no best.ckpt kept", highlight=False)
        return Reference(data, None) if self.metrics else None

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if self.real is not None and (gan.step % self.period == 0 or at_the_end(trainer)):
            self.measure(trainer, gan, self.real, self.metrics, self.n or len(self.real))

    def measure(self, trainer: L.Trainer, gan: GAN, real: Reference, metrics: Metrics, n: int) -> None:
        start = time.perf_counter()
        samples = self.draw(trainer, gan, real, min(n, len(real)))
        figures = measure(metrics, samples, real) if samples is not None else {}
        if trainer.world_size > 1:
            figures = trainer.strategy.broadcast(figures)
        self.latest = {f"val/{name}": value for name, value in figures.items()}
        log(trainer, self.latest, gan.step)
        if self.latest.get(BEST, math.inf) < self.best:
            self.best, self.best_step = self.latest[BEST], gan.step
        elapsed = time.perf_counter() - start
        self.seconds += elapsed
        self.monitor.pause(elapsed)

    def draw(self, trainer: L.Trainer, gan: GAN, real: Reference, n: int) -> Judged | None:
        """The samples of all processes, on the first one; None on the others."""

        def own(whole: Tensor) -> Tensor:
            return whole.tensor_split(trainer.world_size)[trainer.global_rank]

        z, wanted = latents(gan.sampler, n, gan.seed), labels(gan.sampler, n, gan.seed)
        with gan.common_statistics():
            images = draw(gan, own(z), None if wanted is None else own(wanted))
        share = real.look(images)
        if trainer.world_size == 1:
            return replace(share, labels=wanted)
        shares = gather(trainer, share)
        if not trainer.is_global_zero:
            return None
        parts = ((share.images, share.seen, share.features, share.logits) for share in shares)
        images, seen, features, logits = (torch.cat(part) for part in zip(*parts, strict=True))
        return Judged(images, seen, features, logits, wanted)


def draw(gan: GAN, z: Tensor, label: Tensor | None) -> Tensor:
    """The sampler's images, on the CPU, drawn batch by batch."""
    parts = in_batches(z.to(gan.device), None if label is None else label.to(gan.device), BATCH)
    return torch.cat([gan.sample(*part).cpu() for part in parts])
