import json
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers.logger import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dcgan.data.datamodule import BaseDataModule
from dcgan.sampling.base import ImageSheet, SamplingMode
from dcgan.training.context import run_context


class Stripes(BaseDataModule):
    def load(self, train):
        rows = torch.arange(64 if train else 16)[:, None] + torch.arange(28)
        images = (rows % 4 * 85).to(torch.uint8)[:, None, :, None].expand(-1, 1, 28, 28)
        return images, torch.zeros(len(images), dtype=torch.int64)


class SignSGD(Optimizer):
    def __init__(self, params, lr=1e-3, momentum=0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                parameter.sub_(average.sign(), alpha=group["lr"])


class Halving(LRScheduler):
    def __init__(self, optimizer, every):
        self.every = every
        super().__init__(optimizer)

    def get_lr(self):
        return [lr / 2 ** (self.last_epoch // self.every) for lr in self.base_lrs]


class LargestStep(L.Callback):
    """Writes to the run folder and stops the run at `max_loss`."""

    def __init__(self, max_loss):
        self.max_loss = max_loss

    def on_train_batch_end(self, trainer, gan, outputs, batch, batch_idx):
        trainer.should_stop = outputs["loss_d"].item() > self.max_loss

    def on_train_end(self, trainer, gan):
        (run_context(trainer).run_dir / "my_lab.txt").write_text(f"{gan.step} steps")


class JSONLines(Logger):
    name = version = ""

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)

    def log_metrics(self, metrics, step=None):
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    def log_hyperparams(self, params):
        self.log_metrics({"seed": params["seed"]})


class Negative(SamplingMode):
    """Samples with black and white swapped."""

    def image_sheet(self, source):
        images = 255 - source.generate(source.z(self.n or 4, self.seed))
        return ImageSheet(images, columns=self.nrow or 2)
