"""Callbacks of the GPU check, added to a training on its command line.

None is due after each step, so that a CUDA graph replays as many steps in one of Lightning's batches as without them.
"""

import json
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

from dcgan.gan import GAN
from experiments.cuda_graphs import synchronize


def add_callback(name: str, arguments: Mapping[str, object]) -> list[str]:
    """Return the overrides of dcgan.train that add a callback of this module."""
    keys = {"_target_": f"{__name__}.{name}"} | dict(arguments)
    return [f"+callbacks.{name}.{key}={value}" for key, value in keys.items()]


class Stopwatch(L.Callback):
    """Measure the speed of a training, then end it. Writes images per second and ms per step as JSON.

    Args:
        path: The file.
        warm_up_steps: Steps before the measurement.
        seconds: Length of the measurement.
    """

    def __init__(self, path: str, warm_up_steps: int, seconds: float) -> None:
        self.path, self.warm_up_steps, self.seconds = Path(path), warm_up_steps, seconds
        self.started: float | None = None
        self.first_step = 0

    def is_due(self, step: int) -> bool:
        return False  # as often as the training's own callbacks: else each batch would be one step

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.started is None:
            if gan.step >= self.warm_up_steps:
                synchronize(gan.device)
                self.started, self.first_step = time.perf_counter(), gan.step
        elif time.perf_counter() - self.started >= self.seconds:
            synchronize(gan.device)
            elapsed, steps = time.perf_counter() - self.started, gan.step - self.first_step
            images = steps * trainer.datamodule.images_per_step
            self.path.write_text(
                json.dumps({"images_per_second": images / elapsed, "ms_per_step": 1e3 * elapsed / steps})
            )
            trainer.should_stop = True


class SyncCounter(L.Callback):
    """Count the operations that make the host wait for the GPU, then end the training. Writes them as JSON.

    Args:
        path: The file: the number of steps, and the number of synchronizations per line of code.
        first_step: Step after which the count starts.
        n_steps: Number of counted steps.
    """

    def __init__(self, path: str, first_step: int, n_steps: int) -> None:
        self.path, self.first_step, self.last_step = Path(path), first_step, first_step + n_steps
        self.recorder: warnings.catch_warnings[Any] | None = None
        self.caught: list[warnings.WarningMessage] = []
        self.started_at = 0

    def is_due(self, step: int) -> bool:
        return False

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.recorder is None and gan.step >= self.first_step:
            self.recorder = warnings.catch_warnings(record=True)
            self.caught = self.recorder.__enter__() or []
            warnings.simplefilter("always")
            if gan.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            self.started_at = gan.step
        elif self.recorder is not None and gan.step >= self.last_step:
            if gan.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
            self.recorder.__exit__(None, None, None)
            lines = Counter(
                f"{Path(caught.filename).name}:{caught.lineno}"
                for caught in self.caught
                if "synchronizing" in str(caught.message)
            )
            self.path.write_text(json.dumps({"steps": gan.step - self.started_at, "lines": dict(lines.most_common())}))
            trainer.should_stop = True


class SaveParameters(L.Callback):
    """Save the parameters of both networks at the end of the training, as rank0.pt, rank1.pt, ...

    Args:
        folder: For the files. It must exist.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer: L.Trainer, gan: GAN) -> None:
        parameters = {name: parameter.detach().cpu() for name, parameter in gan.named_parameters()}
        torch.save(parameters, self.folder / f"rank{trainer.global_rank}.pt")
