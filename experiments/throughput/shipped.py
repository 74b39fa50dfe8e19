"""`dcgan.train` as shipped, with its logging, sample grids and checkpoints. Logs its steps (see `turns`)."""

import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from dcgan import train
from dcgan.gan import GAN


def main() -> None:
    step_log, overrides = Path(os.environ["STEP_LOG"]), sys.argv[1:]
    training_step = GAN.training_step
    with step_log.open("ab", buffering=0) as file:

        def logged_step(gan: GAN, batch: Any, batch_idx: int) -> Any:
            outputs = training_step(gan, batch, batch_idx)
            if gan.global_rank == 0:
                file.write(b".")
            return outputs

        # without an end, and without evaluations, which experiments/metrics times
        sys.argv[1:] = [
            f"hydra.run.dir={step_log.parent}/run",
            "max_steps=1000000",
            "metrics.every_n_steps=1000000",
            *overrides,
        ]
        with mock.patch.object(GAN, "training_step", logged_step):
            train.main()


if __name__ == "__main__":
    main()
