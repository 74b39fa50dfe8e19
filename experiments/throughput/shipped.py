"""`dcgan.train` as shipped, with its logging, sample grids and checkpoints. Logs its steps (see `turns`)."""

import os
import sys
from pathlib import Path
from typing import Any

import lightning as L

from dcgan import train
from dcgan.gan import GAN


class StepLog(L.Callback):
    """Add a byte to a file for each step, on rank 0.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.path, self.step = Path(path), 0

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_global_zero:
            with self.path.open("ab") as file:
                file.write(b"." * (gan.step - self.step))
            self.step = gan.step

    def is_due(self, step: int) -> bool:
        return False  # a CUDA graph replays many steps in one of Lightning's batches


def main() -> None:
    step_log = Path(os.environ["STEP_LOG"])
    # without an end, and without evaluations, which experiments/metrics times
    sys.argv[1:] = [
        f"hydra.run.dir={step_log.parent}/run",
        "max_steps=1000000",
        "metrics.every_n_steps=1000000",
        # ++, as Lightning starts the other ranks with these arguments, and they are added again
        "++callbacks.step_log._target_=experiments.throughput.shipped.StepLog",
        f"++callbacks.step_log.path={step_log}",
        *sys.argv[1:],
    ]
    train.main()


if __name__ == "__main__":
    main()
